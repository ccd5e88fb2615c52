"""How many clips the publishers' own files hold.

Where nothing else is said: counted by public loaders of the sets (MAE-DFER, DFER-CLIP, HiCMAE,
AffectGPT) and stated on the pages of their owners.
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
# Speech, in each of the three modalities: 60 recordings of each of 24 actors, neutral in one
# intensity only (Livingstone and Russo 2018, PLoS ONE 13(5): e0196391; Zenodo, record 1188976:
# "1440 files: 60 trials per actor x 24 actors").
RAVDESS_CLASSES: Mapping[str, int] = {
    "neutral": 96, "calm": 192, "happy": 192, "sad": 192, "angry": 192, "fear": 192,
    "disgust": 192, "surprise": 192,
}  # fmt: skip
RAVDESS_ACTORS: Mapping[str, int] = {f"actor_{actor:02d}": 60 for actor in range(1, 25)}
# Song: 44 recordings of each of 23 actors, 1,012 files; none of actor 18, and neither disgust nor
# surprise (the same page and paper).
RAVDESS_SONG_CLASSES: Mapping[str, int] = {
    "neutral": 92, "calm": 184, "happy": 184, "sad": 184, "angry": 184, "fear": 184,
}  # fmt: skip
RAVDESS_SONG_ACTORS: Mapping[str, int] = {
    actor: 44 for actor in RAVDESS_ACTORS if actor != "actor_18"
}
# 535 utterances (Burkhardt et al. 2005, Interspeech, "A database of German emotional speech"):
# counted by their letters and speakers in a listing of `wav/` of the publisher's download.zip
# (emodb.bilderbar.info). The classes are also those that papers on the set state.
EMODB_CLASSES: Mapping[str, int] = {
    "angry": 127, "boredom": 81, "disgust": 46, "fear": 69, "happy": 71, "sad": 62, "neutral": 79,
}  # fmt: skip
EMODB_SPEAKERS: Mapping[str, int] = {
    "speaker_03": 49, "speaker_08": 58, "speaker_09": 43, "speaker_10": 38, "speaker_11": 55,
    "speaker_12": 35, "speaker_13": 61, "speaker_14": 69, "speaker_15": 56, "speaker_16": 71,
}  # fmt: skip
# Data set -> its split -> number of clips of each class, or of all where classes are not published.
SPLITS: Mapping[str, Mapping[str, Mapping[str, int] | int]] = {
    # 7,442 clips of 91 actors (Cao et al. 2014, IEEE Transactions on Affective Computing 5(4), and
    # the page of the repository); classes as users count them by names.
    "cremad": {
        "all": {
            "angry": 1271, "disgust": 1271, "fear": 1271, "happy": 1271, "neutral": 1087,
            "sad": 1271,
        },
    },
    # Four men with 120 utterances each: 15 of each emotion, 30 of neutral (Haq and Jackson 2009,
    # AVSP, and the page of the database).
    "savee": {
        "all": {
            "angry": 60, "disgust": 60, "fear": 60, "happy": 60, "neutral": 120, "sad": 60,
            "surprise": 60,
        },
    },
    # Two women, 200 words and seven emotions (Dupuis and Pichora-Fuller 2010, University of
    # Toronto, Psychology Department).
    "tess": {
        "all": dict.fromkeys(
            ("angry", "disgust", "fear", "happy", "surprise", "sad", "neutral"), 400
        ),
    },
    # Users count 30 sentences of each of 42 subjects, and 27 of subject 23. Subject 6 is not cut
    # into sentences. The paper has 42 subjects and 1,166 sequences (Martin, Kotsia, Macq and Pitas
    # 2006, ICDE Workshops).
    "enterface": {
        "all": {
            "angry": 215, "disgust": 215, "fear": 215, "happy": 212, "sad": 215, "surprise": 215,
        },
    },
    # Poria et al. 2019 (ACL, arXiv 1810.02508); classes by split as users of the set count them.
    "meld": {
        "train": {
            "angry": 1109, "disgust": 271, "fear": 268, "happy": 1743, "neutral": 4710,
            "sad": 683, "surprise": 1205,
        },
        "dev": {
            "angry": 153, "disgust": 22, "fear": 40, "happy": 163, "neutral": 470, "sad": 111,
            "surprise": 150,
        },
        "test": {
            "angry": 345, "disgust": 68, "fear": 50, "happy": 402, "neutral": 1256, "sad": 208,
            "surprise": 281,
        },
    },
    # Users of the set count its 10,039 utterances by the codes of EmoEvaluation; here those of the
    # protocol 4way, 1,041 of excited among happy, and of 6way (Busso et al. 2008, Language
    # Resources and Evaluation 42(4), describe the set).
    "iemocap": {
        "all": {"angry": 1103, "happy": 595 + 1041, "sad": 1084, "neutral": 1708},
        "6way": {
            "angry": 1103, "happy": 595, "sad": 1084, "neutral": 1708, "excited": 1041,
            "frustrated": 1849,
        },
    },
    # Lian et al. 2023 (ACM Multimedia, arXiv 2304.08981); classes as users count
    # test1-label.csv and test2-label.csv.
    "mer2023": {
        "train": 3373,
        "test1": {
            "neutral": 88, "angry": 105, "happy": 93, "sad": 50, "anxiety": 57, "surprise": 18,
        },
        "test2": {
            "neutral": 123, "angry": 98, "happy": 87, "sad": 40, "anxiety": 52, "surprise": 12,
        },
        "test3": 834,
    },
    # Lian et al. 2024 (MRAC, arXiv 2404.17113).
    "mer2024": {"train": 5030},
    # The page of the challenge for track 1, OV-MERD and MER-Caption+ for tracks 2 and 3.
    "mer2025": {"train": 7369, "ovmerd": 332, "mercaptionplus": 31_327},
    # Cheng et al. 2024 (NeurIPS, arXiv 2406.11161), clips of doubt among them.
    "merr": {"fine": 4487, "coarse": 28_618},
}  # fmt: skip
# Data set -> number of its speakers, where nobody else speaks in it.
SPEAKERS: Mapping[str, int] = {"cremad": 91, "savee": 4, "tess": 2, "enterface": 43, "iemocap": 10}
# Version -> rows of its file.
EMER_ROWS: Mapping[str, int] = {"v2": 332, "v1": 100}
# Data set -> where its counts come from.
_LOADERS = "counted by public loaders: MAE-DFER, DFER-CLIP, HiCMAE"
SOURCES: Mapping[str, str] = {
    "dfew": _LOADERS,
    "mafw": _LOADERS,
    "ravdess": "Livingstone and Russo 2018, PLoS ONE 13(5): e0196391; Zenodo, record 1188976",
    "emer": "its publisher's files, counted",
    "emodb": "Burkhardt et al. 2005, Interspeech; the publisher's download.zip, counted",
    "cremad": "Cao et al. 2014, IEEE Transactions on Affective Computing 5(4); users of the set",
    "savee": "Haq and Jackson 2009, AVSP; the page of the database",
    "tess": "Dupuis and Pichora-Fuller 2010, University of Toronto",
    "enterface": "Martin et al. 2006, ICDE Workshops; users of the set",
    "meld": "Poria et al. 2019, arXiv 1810.02508; users of the set",
    "iemocap": "Busso et al. 2008, Language Resources and Evaluation 42(4); users of the set",
    "mer2023": "Lian et al. 2023, arXiv 2304.08981; users of the set",
    "mer2024": "Lian et al. 2024, arXiv 2404.17113",
    "mer2025": "the page of the challenge",
    "merr": "Cheng et al. 2024, arXiv 2406.11161",
}
# Data set -> sampling rate of its sound, in Hz, where the publisher or a source above states it.
RATES_HZ: Mapping[str, int] = {"ravdess": 48_000, "emodb": 16_000}
# Data set -> clips whose sound cannot be extracted.
WITHOUT_SOUND: Mapping[str, int] = {"mafw": 21}
