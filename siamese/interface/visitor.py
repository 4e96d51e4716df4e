"""Who a visitor is: an unguessable token in their browser's own storage, no account, no cookie."""
from __future__ import annotations

import gradio as gr

# Gradio encrypts what it keeps in the browser, by default with a secret that every start of the server makes anew, which
# would lose the token. The token is the visitor's own and a secret by itself, so a constant does no harm.
_SECRET = "siamese-diffusion-studio"


def visitor_token() -> gr.BrowserState:
    """The browser's token, None before the first visit."""
    return gr.BrowserState(None, storage_key="siamese-studio-visitor", secret=_SECRET)


def visitor_of(request: gr.Request) -> str:
    """Whose request it is, for limits and turns: by address. A session hash, which the client chooses, counts for nothing."""
    return request.client.host if request.client else ""
