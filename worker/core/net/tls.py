"""Trusted certificate authorities: the public ones, and those of the operator's company.

``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` replace the public authorities, as in OpenSSL.
``TENANT_MIRROR_CA`` adds authorities to those trusted already.
"""

import os
import ssl
from pathlib import Path
from typing import Final

import httpx

from worker.core.errors import ConfigurationError
from worker.core.secret import Certificates

CERT_FILE_VARIABLE: Final = "SSL_CERT_FILE"
CERT_DIR_VARIABLE: Final = "SSL_CERT_DIR"
CA_VARIABLE: Final = "TENANT_MIRROR_CA"

_UNKNOWN_AUTHORITY_CODES: Final = frozenset({2, 18, 19, 20, 21})
_HOST_MISMATCH_CODES: Final = frozenset({62, 63, 64})
_OUTSIDE_VALIDITY_CODES: Final = frozenset({9, 10})
"""OpenSSL's verify codes. https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error"""


def build_ssl_context(extra_ca: Certificates | None = None) -> ssl.SSLContext:
    """Return the SSL context that verifies connections.

    Raises ConfigurationError, with the name of the variable, if certificates cannot be read.
    """
    file, folder = os.environ.get(CERT_FILE_VARIABLE), os.environ.get(CERT_DIR_VARIABLE)
    if file or folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = httpx.create_ssl_context(trust_env=False)
    if file:
        _load_file(context, file)
    if folder:
        _load_folder(context, folder)
    if extra_ca is not None:
        _load_extra_ca(context, extra_ca)
    return context


def _load_file(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise ConfigurationError(
            f"{CERT_FILE_VARIABLE}: {path} holds no certificates in PEM"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{CERT_FILE_VARIABLE}: cannot read {path}: {error.strerror}"
        ) from None


def _load_folder(context: ssl.SSLContext, path: str) -> None:
    """Load a list of folders, in OpenSSL's notation. OpenSSL reads the files when needed."""
    folders = [one for one in path.split(os.pathsep) if Path(one).is_dir()]
    if not folders:
        raise ConfigurationError(f"{CERT_DIR_VARIABLE}: {path} is not a directory")
    for one in folders:
        context.load_verify_locations(capath=one)


def _load_extra_ca(context: ssl.SSLContext, own: Certificates) -> None:
    try:
        context.load_verify_locations(cadata=own.pem)
    except (ssl.SSLError, ValueError):
        raise ConfigurationError(
            f"{CA_VARIABLE} holds a certificate that cannot be read; it must be PEM"
        ) from None


def explain_certificate_error(error: ssl.SSLCertVerificationError) -> str:
    """Return what is wrong with a certificate, and what to do about it."""
    reason = f"certificate verify failed: {error.verify_message}"
    if error.verify_code in _UNKNOWN_AUTHORITY_CODES:
        instead = f"{CERT_FILE_VARIABLE} and {CERT_DIR_VARIABLE} replace the public authorities"
        set_here = os.environ.get(CERT_FILE_VARIABLE) or os.environ.get(CERT_DIR_VARIABLE)
        return (
            f"{reason}; if your company's own authority signs it, name a file with that "
            f"authority's certificate in {CA_VARIABLE}_FILE{f' ({instead})' if set_here else ''}"
        )
    if error.verify_code in _HOST_MISMATCH_CODES:
        return f"{reason}; check that the certificate is issued for the host name of the address"
    if error.verify_code in _OUTSIDE_VALIDITY_CODES:
        return f"{reason}; renew it on that server, or correct the clock of this machine"
    return reason
