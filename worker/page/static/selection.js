// Boxes of a table: one that checks all of the page, and how many are checked.
function updateSelection() {
  for (const form of document.querySelectorAll("form[data-selection]")) {
    const boxes = [...form.querySelectorAll("input[name=id]")];
    const checked = boxes.filter((box) => box.checked).length;
    const all = form.querySelector("input[data-all]");
    if (all) {
      all.checked = checked > 0 && checked === boxes.length;
      all.indeterminate = checked > 0 && checked < boxes.length;
    }
    const counter = form.querySelector("[data-checked]");
    if (counter) counter.textContent = checked ? `${checked} selected` : "none selected";
  }
}

document.addEventListener("change", (event) => {
  const all = event.target.closest("input[data-all]");
  if (all) {
    for (const box of all.form.querySelectorAll("input[name=id]")) box.checked = all.checked;
  }
  updateSelection();
});

document.addEventListener("htmx:after:swap", updateSelection);
updateSelection();
