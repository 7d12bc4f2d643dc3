"""A bank in words: its summary, and its episodes one a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fssbench.banks.bank import Bank


def summary(bank: Bank) -> dict[str, Any]:
    """What a bank holds, in plain values."""
    return {
        "bank": str(bank.path),
        "kind": "with images" if bank.has_images else "index, without images",
        "bytes": bank.path.stat().st_size,
        "fingerprint": bank.fingerprint,
        "image fingerprint": bank.image_fingerprint,
        "dataset": bank.dataset,
        "pool": bank.pool,
        "protocol": bank.protocol.name,
        "corruption": bank.protocol.corruption,
        "protocol hash": bank.protocol.hash,
        "seeds": list(bank.protocol.seeds),
        "ways": bank.ways,
        "shots": f"1 to {bank.shots}" if bank.protocol.nested else ", ".join(map(str, bank.draws)),
        "images": len(bank.image_ids),
        "annotations": list(bank.masks.kinds),
        "note": bank.note,
        "folds": [
            {
                "fold": fold,
                "classes": ", ".join(bank.class_names[c] for c in classes),
                "episodes": len(bank.episodes(fold)),
            }
            for fold, classes in bank.fold_classes.items()
        ],
    }


def episode_lines(bank: Bank, fold: int, shots: int | None = None) -> Iterator[str]:
    """One line an episode: `<query> <class> <support 1> ... <support K>`, the text that published hashes are over.

    With several ways, every further way adds ` | <class> <supports>`.
    """
    episodes, ids = bank.episodes(fold, shots), bank.image_ids
    for query, classes, support in zip(episodes.query, episodes.classes, episodes.support, strict=True):
        ways = [
            " ".join([str(class_id), *(ids[i] for i in images)])
            for class_id, images in zip(classes, support, strict=True)
        ]
        yield f"{ids[query]} {' | '.join(ways)}"
