"""The Attention Microscope: page settings, language and the list of pages. No logic.

    streamlit run app.py
"""

from pathlib import Path

import streamlit as st

from pages.widgets import banners, keeping, language, runtime, style

chosen = language.choose()
_ = language.translator(chosen)

page = st.navigation(
    [
        st.Page("pages/home.py", title=_("Five questions"), default=True),
        st.Page("pages/attention.py", title=_("Attention"), url_path="attention"),
        st.Page("pages/qkv.py", title=_("Q·K·V step by step"), url_path="qkv"),
        st.Page("pages/positions.py", title=_("Positions"), url_path="positions"),
        st.Page("pages/normalization.py", title=_("Why LayerNorm"), url_path="normalization"),
        st.Page("pages/evidence.py", title=_("Evidence"), url_path="evidence"),
        st.Page("pages/memory.py", title=_("Memory and the KV cache"), url_path="memory"),
        st.Page("pages/scaling.py", title=_("Scaling and saturation"), url_path="scaling"),
    ],
    position="top",
)
st.set_page_config(
    page_title=f"{page.title} · {_('The Attention Microscope')}",
    page_icon=str(Path(__file__).parent / "assets" / "favicon.svg"),
    layout="wide",
)
style.apply()
with keeping.visit(page.url_path, chosen.code), banners.guard(_):
    runtime.start(_)
    page.run()
