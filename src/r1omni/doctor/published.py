"""How many clips the publishers' own files hold.

Counted by public loaders of the sets (MAE-DFER, DFER-CLIP, HiCMAE, AffectGPT) and stated on the
pages of their owners.
"""

from __future__ import annotations

from collections.abc import Mapping

# Data set -> (train, test) of folds 1 to 5.
FOLDS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "dfew": ((9356, 2341), (9356, 2341), (9357, 2340), (9358, 2339), (9361, 2336)),
    "mafw": ((7333, 1839), (7335, 1837), (7339, 1833), (7340, 1832), (7341, 1831)),
}
# Fold 1 of DFEW, test split.
DFEW_TEST_CLASSES: Mapping[str, int] = {
    "happy": 489, "sad": 379, "neutral": 534, "angry": 435, "surprise": 294, "disgust": 29,
    "fear": 181,
}  # fmt: skip
# Speech with picture and sound: 60 recordings of each of 24 actors, neutral in one intensity only.
RAVDESS_CLASSES: Mapping[str, int] = {
    "neutral": 96, "calm": 192, "happy": 192, "sad": 192, "angry": 192, "fear": 192,
    "disgust": 192, "surprise": 192,
}  # fmt: skip
# Version -> rows of its file.
EMER_ROWS: Mapping[str, int] = {"v2": 332, "v1": 100}
