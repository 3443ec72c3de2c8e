"""Pictures from arrays: numpy in, Plotly figures out; no torch, no Streamlit, no text of its own."""
