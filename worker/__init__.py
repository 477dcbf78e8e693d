"""The background service.

The words, each with one meaning: *connection* (one customer's tenant through Nango), *resource*
(a kind of Graph object), *stream* (one resource of one connection), *run* (one attempt to bring a
connection up to date), *slice* (one task's share of a run), *walk* (the paging through one
resource), *round* (a walk along delta links), *cursor* (where the next call starts), *record*
(an object as Graph sent it), *row* (as we store it), *sweep* (deleting what a complete walk did
not see), *change event*, *sink*.
"""
