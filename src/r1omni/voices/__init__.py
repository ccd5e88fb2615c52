"""Explanations of real speech: what a voice does is measured, and written down in words.

`vocabulary.py` names the measures, `measures.py` takes them of a clip and `measuring.py` of many,
`levels.py` compares with the speaker and names cues, `wording.py` writes the text, `choosing.py`
says which clips, and `describe.py` does all of it for a data set: docs/voices.md.
"""
