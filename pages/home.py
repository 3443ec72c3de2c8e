"""The five questions as five cards, each with a live figure of the embedded model and one sentence of answer."""

import streamlit as st

from pages.figures.home import STATIC
from pages.widgets import banners, home_cards, language, prompt_box, runtime

spoken = language.chosen()
_ = language.translator(spoken)
engine = runtime.engine()
theme = st.context.theme.type or "light"

st.title(_("The Attention Microscope"))
st.markdown(_("Type a sentence, pick a transformer, and see how attention works, on a real model that really runs. A "
              "bright cell is a hint; beside it stand the baseline, the cut edge, the swapped word, and what changed."))
with st.form("sentence", border=False):
    left, right = st.columns([5, 1], vertical_alignment="bottom")
    text = left.text_input(_("Sentence"), home_cards.FLAGSHIP.text, key="home_text")
    if right.form_submit_button(_("Look inside"), type="primary", icon=":material/biotech:", width="stretch"):
        st.session_state[prompt_box.TEXT] = text
        st.switch_page("pages/attention.py")

CARDS = (
    (_("What are Q, K and V, what do they do, and where do they fall short?"), "pages/qkv.py",
     _("Q·K·V step by step"), home_cards.query_key_value),
    (_("If nothing is read in order, how does the model know word order?"), "pages/positions.py", _("Positions"),
     home_cards.positions),
    (_("Why LayerNorm, and why rather than BatchNorm?"), "pages/normalization.py", _("Why LayerNorm"),
     home_cards.normalization),
    (_("When the model translates {query}, does it really attend to {key} before it?").format(
        query=home_cards.FLAGSHIP.query, key=home_cards.FLAGSHIP.key), "pages/evidence.py", _("Evidence"),
     home_cards.evidence),
    (_("Why does a whole book eat so much GPU memory?"), "pages/memory.py", _("Memory and the KV cache"),
     home_cards.memory),
)

if not home_cards.is_here(engine):
    st.warning(_("The embedded model is missing, so the cards have no live numbers. Get the repository whole, or "
                 "choose another model on the pages."))
    st.stop()
places = [*st.columns(2, gap="medium"), *st.columns(2, gap="medium"), st.container()]
for number, (place, (question, page, label, answer)) in enumerate(zip(places, CARDS, strict=True), start=1):
    with place, st.container(border=True, height="stretch"), banners.guard(_):
        st.subheader(f"{number} · {question}")
        with st.spinner(_("Asking the model …")):
            given = answer(engine, theme, _)
        st.plotly_chart(given.figure, theme=None, config=STATIC, key=f"card-{number}", alt=question)
        st.markdown(given.sentence)
        st.page_link(page, label=label, icon=":material/arrow_forward:")
