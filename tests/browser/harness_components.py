"""A page with nothing but the canvas components and the figures, on planted arrays, for the browser tests.

The query parameter `case` says with what it opens: small, hostile, large or cross. Two controls change the case and the
order of the grid's heads.
"""

import sys
from pathlib import Path

import numpy as np
import streamlit as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from pages.figures import attention, palette
from pages.widgets.head_grid import head_grid
from pages.widgets.head_lines import head_lines
from pages.widgets.token_link import token_link

st.set_page_config(layout="wide")
CASES = {
    "small": (3, 4, ["我", "喜欢", "吃", "苹果", "</s>"], None),
    "hostile": (2, 2, ["<img src=x onerror=window.__pwned=1>", "</s>", "<b>bold</b>", "&lt;", "%{z}", "ש" * 4,
                       "long" * 40, "苹果", "苹果"], None),
    "large": (12, 12, [f"词{i}" for i in range(64)], None),
    "cross": (3, 4, ["I", "like", "to", "eat", "apples", "</s>"], ["我", "喜欢", "吃", "苹果", "</s>"]),
}
st.session_state.setdefault("case", st.query_params.get("case", "small"))
case = st.radio("case", list(CASES), key="case", horizontal=True, on_change=st.session_state.update,
                kwargs={"head": (0, 0), "row": 1})
n_layers, n_heads, queries, keys = CASES[case]
keys = keys or queries
q_len, k_len = len(queries), len(keys)

distance = np.abs(np.arange(q_len)[:, None] - np.arange(k_len)[None])
scores = np.stack([[-distance / (1 + head) + 3.0 * (np.arange(k_len) == layer % k_len)[None]
                    for head in range(n_heads)] for layer in range(n_layers)])
if case in ("large", "hostile"):
    scores = np.where(np.triu(np.ones((q_len, k_len), bool), 1), -np.inf, scores)
weights = np.exp(scores - scores.max(-1, keepdims=True))
weights /= weights.sum(-1, keepdims=True)
patterns = np.where(np.isinf(scores), np.nan, weights).astype(np.float32)

grid_texts = {"grid": "所有注意力头", "layer": "层", "head": "头", "legend": "颜色 = 权重（按平方根着色）",
              "masked": "不可见", "weight": "权重", "empty": "没有符合条件的头"}
labels = np.array([["前一词" if head % 2 else "汇点" for head in range(n_heads)] for _ in range(n_layers)])
captions = np.array([[f"L{layer} H{head} · {np.nanmax(patterns[layer, head]):.2f}" for head in range(n_heads)]
                     for layer in range(n_layers)])
natural = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
orders = {"natural": natural, "sorted": natural[::-1], "empty": []}
order = orders[st.radio("order", list(orders), horizontal=True, key="order")]

st.session_state.setdefault("head", (0, 0))
st.session_state.setdefault("row", 1)
clicked = head_grid(palette.weights_to_bytes(patterns), stream="encoder", labels=labels, captions=captions,
                    order=order, row_labels=queries, column_labels=keys, selected=st.session_state.head,
                    texts=grid_texts, key="grid")
if clicked is not None:
    st.session_state.head = clicked
layer, head = st.session_state.head
st.write(f"head: {layer},{head}")

flags = ["special" if token == "</s>" else "unknown" if i == 1 else "fallback" if i == 2 else ""
         for i, token in enumerate(queries)]
key_flags = ["special" if token == "</s>" else "" for token in keys]
if st.checkbox("tokens", value=True):
    chosen = token_link(stream="encoder", query_labels=queries, key_labels=keys, query_flags=flags,
                        key_flags=key_flags, selected_query=st.session_state.row, heatmap_key="detail", key="tokens",
                        texts={"query": "查询词", "key": "被看的词", "unknown": "模型不认识", "fallback": "拆成单字",
                               "special": "特殊标记", "hint": "指着一个词，各视图同时高亮；点击查询词选定一行"})
    if chosen is not None:
        st.session_state.row = chosen
row = min(st.session_state.row, q_len - 1)
st.write(f"row: {row}")

pattern = patterns[layer, head]
theme = st.context.theme.type or "light"
figure_texts = {"query": "查询", "key": "键", "weight": "权重", "difference": "差", "uniform": "均匀",
                "others": "其余 {count} 个，共 {mass}"}
left, right = st.columns(2)
with left:
    figure = attention.pattern_heatmap(pattern, query_labels=queries, key_labels=keys, texts=figure_texts,
                                       title=f"第 {layer} 层第 {head} 头", selected_query=row, theme=theme)
    st.plotly_chart(figure, key="detail", config=attention.plotly_config("head"))
with right:
    head_lines(pattern, stream="encoder", query_labels=queries, key_labels=keys, key="lines",
               texts={"lines": "注意力连线", "query": "查询", "key": "键", "masked": "不可见",
                      "hint": "指着一个词看它的连线"})
    visible = pattern[row]
    st.plotly_chart(attention.row_bars(visible, key_labels=keys, texts=figure_texts, theme=theme,
                                       uniform=np.full(len(keys), 1 / np.isfinite(visible).sum())), key="bars")
with left:
    st.plotly_chart(attention.difference_heatmap(pattern - patterns[0, 0], query_labels=queries, key_labels=keys,
                                                 texts=figure_texts, theme=theme), key="difference")
with right:
    pooled = np.tril(np.random.default_rng(0).random((512, 512)) ** 6)
    edges = np.linspace(0, 2000, 513).astype(int)
    st.plotly_chart(attention.pattern_image(pooled, q_edges=edges, k_edges=edges, texts=figure_texts, theme=theme),
                    key="pooled")
