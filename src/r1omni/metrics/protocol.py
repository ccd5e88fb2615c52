"""What a figure was measured on and how: the protocol that is named beside it.

`protocols` in `results.json` has one a test set, of plain values. What is not known is None;
nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1omni.text.emotions import LABEL_SETS

_NUM_HEX = 12
_GREEDY = "the most probable token"
# Different questions that are kept, as the record of a test keeps them.
_NUM_PROMPTS = 5
# Of answers pooled from folds these are put together; anything else is of all folds, or of each.
_PUT_TOGETHER = ("data set", "fold", "speakers", "date")


def protocol_of(provenance: Mapping[str, Any], name: str, label_set: str) -> dict[str, Any]:
    """The protocol of a test set.

    Args:
        provenance: as `training/provenance.py` records it; an empty one for answers of a system
            that nothing is recorded of.
        name: of the set.
        label_set: the classes.

    Returns:
        data_set, split, sampling: which clips; None where it is not recorded.
        fold: the one whose clips are tested, of `num_folds`; None for a data set without folds, and
            where it is not recorded; a list where answers are pooled. A mean over folds is a mean
            of several results.
        options: the data set's other options that are set, such as a protocol.
        classes: of the label set `label_set`.
        speakers: names of the units of resampling (actors), or None where they are not known.
        num_clips, modalities: how many clips, and which media prompts carry.
        prompts: up to five questions, of `num_prompts` different ones.
        answer_mode, decoding, frame_fit: how answers were drawn; `decoding` has temperature,
            longest answer and precision.
        voting: samples and temperature of the votes beside the answers, or None.
        model: `init_from` and `sha256` of the model folder's weights.
        checkpoint: `sha256` and `step` of the checkpoint over them, or None.
        hub: commits of what came from the hub.
        code: `version` of r1omni, and `sha256` of its source files.
        date: of the test, UTC.
    """
    part = (provenance.get("sets") or {}).get(name) or {}
    options = part.get("options") or {}
    answers = provenance.get("answers") or {}
    start = provenance.get("start") or {}
    checkpoint = provenance.get("checkpoint")
    return {
        "data_set": part.get("dataset"),
        "split": part.get("split"),
        "sampling": part.get("sampling"),
        "fold": options.get("fold"),
        "num_folds": options.get("folds"),
        "options": {
            key: value
            for key, value in options.items()
            if value is not None and key not in ("fold", "folds")
        },
        "label_set": label_set,
        "classes": list(LABEL_SETS[label_set].labels),
        "speakers": part.get("groups"),
        "num_clips": part.get("num_samples"),
        "modalities": part.get("modalities"),
        "prompts": part.get("instructions"),
        "num_prompts": part.get("num_instructions"),
        # It is recorded only where it is not the default.
        "answer_mode": answers.get("mode", "think") if answers else None,
        "decoding": {
            key: answers[key] for key in ("temperature", "max_new_tokens", "precision")
        } if answers else None,
        "voting": answers.get("voting"),
        "frame_fit": answers.get("frame_fit"),
        "model": {key: start.get(key) for key in ("init_from", "sha256")} if start else None,
        "checkpoint": {key: checkpoint[key] for key in ("sha256", "step")} if checkpoint else None,
        "hub": start.get("hub"),
        "code": {
            "version": (provenance.get("versions") or {}).get("r1omni"),
            "sha256": provenance.get("source_sha256"),
        },
        "date": provenance.get("date"),
    }  # fmt: skip


def pooled_protocol(folds: Mapping[int, Mapping[str, Any]], number: int) -> dict[str, Any]:
    """The protocol of the answers of several folds together.

    Args:
        folds: `protocol_of` each fold.
        number: of folds that there are.

    Returns:
        the keys of `protocol_of`, `fold` as the list of folds, clips added up, speakers and prompts
        of all, and the last date. What differs between folds is None, and `folds` has it by fold.
    """
    all_of_them = list(folds.values())
    first = all_of_them[0]
    differing = [key for key in first if any(one.get(key) != first[key] for one in all_of_them)]
    pooled = {key: None if key in differing else first[key] for key in first}
    speakers, prompts, dates = (
        [one[key] for one in all_of_them] for key in ("speakers", "prompts", "date")
    )
    counts = [one["num_clips"] for one in all_of_them]
    if all(speakers):
        pooled["speakers"] = sorted({name for own in speakers for name in own})
    if all(prompts) and "prompts" in differing:
        asked = sorted({prompt for own in prompts for prompt in own})
        pooled["prompts"] = asked[:_NUM_PROMPTS]
        pooled["num_prompts"] = max(len(asked), *(one["num_prompts"] for one in all_of_them))
    return {
        **pooled,
        "fold": list(folds),
        "num_folds": number,
        "options": pooled["options"] or {},
        "num_clips": None if None in counts else sum(counts),
        "code": pooled["code"] or {"version": None, "sha256": None},
        "date": max(filter(None, dates), default=None),
        "folds": {
            str(fold): {key: one[key] for key in differing} for fold, one in folds.items()
        },
    }  # fmt: skip


def protocol_items(protocol: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a protocol, in words by their names, for tables and lines."""
    found = _items(protocol)
    folds = {
        fold: _items({**protocol, **own}) for fold, own in (protocol.get("folds") or {}).items()
    }
    for name in dict.fromkeys(name for own in folds.values() for name in own):
        words = [f"fold {fold} {own[name]}" for fold, own in folds.items() if name in own]
        if name not in _PUT_TOGETHER and len({own.get(name) for own in folds.values()}) > 1:
            found[name] = "; ".join(words)
    return found


def _items(protocol: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "data set": _set_words(protocol),
        "fold": _fold_words(protocol),
        "options": ", ".join(f"{name} {value}" for name, value in protocol["options"].items()),
        "classes": f"{len(protocol['classes'])} ({protocol['label_set']}): "
        + ", ".join(protocol["classes"]),
        "speakers": _speaker_words(protocol["speakers"]),
        "prompt": _prompt_words(protocol),
        "media": " and ".join(protocol["modalities"] or ()),
        "answer mode": protocol["answer_mode"] or "",
        "decoding": _decoding_words(protocol["decoding"]),
        "voting": _voting_words(protocol.get("voting")),
        "frame fit": protocol["frame_fit"] or "",
        "weights": _weight_words(protocol),
        "hub revision": _hub_words(protocol["hub"]),
        "code version": _code_words(protocol["code"]),
        "date": (protocol["date"] or "")[:10],
    }
    return {name: words for name, words in found.items() if words}


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """One line below a figure of a terminal; the questions and names that are long are left out."""
    items = protocol_items(protocol)
    items["classes"] = f"{len(protocol['classes'])} ({protocol['label_set']})"
    if protocol["speakers"]:
        items["speakers"] = str(len(protocol["speakers"]))
    if "prompt" in items:
        items["prompt"] = f"{protocol['num_prompts']}"
    return "; ".join(f"{name} {words}" for name, words in items.items())


def _set_words(protocol: Mapping[str, Any]) -> str:
    sampling = protocol["sampling"]
    words = [protocol["data_set"], protocol["split"], None if sampling == "all" else sampling]
    if protocol["num_clips"] is not None:
        words.append(f"{protocol['num_clips']} clips")
    return ", ".join(word for word in words if word)


def _fold_words(protocol: Mapping[str, Any]) -> str:
    fold = protocol["fold"]
    if fold is None:
        return ""
    of = f" of {protocol['num_folds']}" if protocol["num_folds"] else ""
    return f"{', '.join(map(str, fold))}{of}, pooled" if isinstance(fold, list) else f"{fold}{of}"


def _speaker_words(speakers: list[str] | None) -> str:
    return f"{len(speakers)}: {', '.join(speakers)}" if speakers else ""


def _prompt_words(protocol: Mapping[str, Any]) -> str:
    prompts = protocol["prompts"]
    if not prompts:
        return ""
    more = protocol["num_prompts"] - len(prompts)
    return " / ".join(prompts) + (f" / and {more} more" if more else "")


def _decoding_words(decoding: Mapping[str, Any] | None) -> str:
    if decoding is None:
        return ""
    heat = decoding["temperature"]
    way = _GREEDY if heat == 0 else f"temperature {heat}"
    return f"{way}, at most {decoding['max_new_tokens']} tokens, {decoding['precision']}"


def _voting_words(voting: Mapping[str, Any] | None) -> str:
    if voting is None:
        return ""
    heat = voting["temperature"]
    return f"{voting['samples']} samples" + ("" if heat is None else f" at temperature {heat}")


def _weight_words(protocol: Mapping[str, Any]) -> str:
    """The checkpoint by its SHA-256, or the model folder where none was put over it."""
    checkpoint, model = protocol["checkpoint"], protocol["model"]
    if checkpoint:
        return f"checkpoint {checkpoint['sha256'][:_NUM_HEX]}, step {checkpoint['step']}"
    return f"model {model['sha256'][:_NUM_HEX]}" if model and model["sha256"] else ""


def _code_words(code: Mapping[str, Any]) -> str:
    if code["version"] is None:
        return ""
    source = f", source {code['sha256'][:_NUM_HEX]}" if code["sha256"] else ""
    return f"r1omni {code['version']}{source}"


def _hub_words(hub: Mapping[str, str] | None) -> str:
    return ", ".join(f"{name} {commit}" for name, commit in (hub or {}).items())
