"""Evidence for "A attends to B": attends, flows, used, needed, and a verdict.

    asking      the engine's method
    gather      the whole way, top-down
    question    what exactly is run and read, by family        places      words to tokens
    bench       lays out and measures edited runs              effects     cuts, hiding, patches
    swaps       other words in B's place                       reference   heads over a corpus
    flows       rollout and value-weighted norms               statistics, verdict
    emergence   the same question at the model's snapshots

Values that leave are in `engine.evidence_types` and `engine.emergence_types`.
"""
