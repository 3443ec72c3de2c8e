"""The page of all pictures: titles stand in it as they were typed."""

from __future__ import annotations

import json
import re

import numpy as np
import plotly.graph_objects as go

from pages.widgets import chart_export
from pages.widgets.language import Language

HOSTILE = "<b>bold</b> & </script>"


def test_titles_are_no_markup():
    figures = dict.fromkeys((HOSTILE, HOSTILE + " 2"), go.Figure(go.Bar(y=np.ones(2))))
    whole = chart_export._html(figures, [("Sentence", HOSTILE)], Language("en", "en", "English"), "light", str)
    titles = [json.loads(f'"{title}"') for title in re.findall(r'"text":"((?:[^"\\]|\\.)*)"', whole)]
    assert [title for title in titles if "bold" in title] == [
        "&lt;b>bold&lt;/b> &amp; &lt;/script>", "&lt;b>bold&lt;/b> &amp; &lt;/script> 2"]
    assert "<b>bold" not in whole and "&lt;b&gt;bold" in whole
