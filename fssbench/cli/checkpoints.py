"""`fssbench checkpoint` and `fssbench import-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fssbench.cli.app import app, messages, print_json
from fssbench.cli.options import Json
from fssbench.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


@app.command("checkpoint")
def checkpoint(
    file: Path = typer.Argument(..., help="A .pth, .pt or .safetensors file, ours or anyone's."),
    as_json: Json = False,
) -> None:
    """Show what a checkpoint file holds, and which method it may fit. No code in the file is executed."""
    entry = _shown(file)
    if as_json:
        print_json(entry)
        return
    typer.echo(str(file))
    if "card" in entry:
        for name, value in entry["card"].items():
            typer.echo(f"  {name}: {value}")
    for wrapper in entry["beside"]:
        typer.echo(f"  also in the file: {wrapper}")
    for state in entry["state_dicts"]:
        typer.echo(
            f"\n{state['key'] or 'the file itself'}: {state['entries']} entries, {state['parameters']:,} numbers"
        )
        typer.echo(f"  types: {', '.join(f'{kind} ({number})' for kind, number in state['types'].items())}")
        if state["removed"]:
            typer.echo(f"  prefixes that import removes: {', '.join(state['removed'])}")
        for name, shape in state["first"].items():
            typer.echo(f"  {name}  {shape}")
        if state["entries"] > len(state["first"]):
            typer.echo(f"  and {state['entries'] - len(state['first'])} more")
        typer.echo(f"  fits: {', '.join(state['fits']) or 'no built-in method with a backbone of its paper'}")


@app.command("import-checkpoint")
def import_checkpoint(
    method: str = typer.Argument(..., help="Method by name (`fssbench methods`), or package.module:Class."),
    file: Path = typer.Argument(..., help="The .pth or .pt file that the method's authors published."),
    fold: int = typer.Option(..., "--folds", min=0, help="The fold whose classes it has not seen."),
    out: Path | None = typer.Option(None, "--out", help="[checkpoints/METHOD-BACKBONE-foldF.safetensors]"),
    backbone: str | None = typer.Option(None, "--backbone", help="Another backbone than the paper's."),
    settings: list[str] | None = typer.Option(None, "--set", metavar="FIELD=VALUE", help="A field of the config."),
    key: str | None = typer.Option(None, "--key", help="Which state dict, where the file holds several."),
    source: str = typer.Option("", "--source", help="Where the file is from, such as a web address."),
    dataset: str | None = typer.Option(None, "--dataset", help="The data set it was trained on."),
    trained_on: str | None = typer.Option(None, "--trained-on", metavar="LIST", help="Its list of training images."),
    novel_images: str | None = typer.Option(
        None, "--novel-images", metavar="WHAT", help="Training images that show novel classes: dropped, masked or kept."
    ),
    selected_on: str | None = typer.Option(
        None, "--selected-on", metavar="WHAT", help="Classes it was chosen on among its like: base, novel or nothing."
    ),
    note: str = typer.Option("", "--note", help="What else there is to know about its training."),
    force: bool = typer.Option(False, "--force", help="Overwrite the output."),
    as_json: Json = False,
) -> None:
    """Turn the authors' checkpoint into ours, every key accounted for. No code in the file is executed."""
    from fssbench.checkpoints import import_official, save_checkpoint
    from fssbench.names import file_name
    from fssbench.regime import authors_regime

    chosen = [*(settings or ()), *([f"backbone={backbone}"] if backbone else [])]
    regime = authors_regime(dataset, fold, trained_on, novel_images, selected_on, note)
    state, card = import_official(method, file, regime, key=key, settings=tuple(chosen), source=source)
    for remark in card.notes:
        messages.print(f"{file}: {remark}", markup=False, soft_wrap=True)
    target = out or Path("checkpoints") / f"{file_name(method)}-{file_name(card.backbone)}-fold{fold}.safetensors"
    if target.suffix != ".safetensors":
        raise UsageError(f"expected --out to end in .safetensors, found {target}")
    save_checkpoint(target, state, card, force=force)
    if as_json:
        print_json({"path": str(target), "entries": len(state), "card": card.model_dump(mode="json")})
    else:
        typer.echo(f"{target}: {len(state)} entries of {method}, {card.backbone}, fold {fold}")


SHOWN = 8  # names of a state dict that are printed


def _shown(file: Path) -> dict[str, Any]:
    from fssbench.checkpoints import read_card
    from fssbench.state_dicts import read_content, state_dicts

    content = read_content(file)
    entry: dict[str, Any] = {"file": str(file)}
    if file.suffix == ".safetensors":
        try:
            entry["card"] = read_card(file).model_dump(mode="json")
        except CheckpointError as error:
            messages.print(str(error), markup=False, soft_wrap=True)
    found = state_dicts(content)
    entry["state_dicts"] = [_described(key, tensors, "card" in entry) for key, tensors in found.items()]
    tops = {key.partition(".")[0] for key in found}
    others = content.items() if isinstance(content, dict) and "" not in tops else ()
    entry["beside"] = [_briefly(str(name), value) for name, value in others if str(name) not in tops]
    return entry


def _described(key: str, tensors: dict[str, Tensor], ours: bool) -> dict[str, Any]:
    from collections import Counter

    from fssbench.checkpoints import fitting
    from fssbench.state_dicts import unwrapped, with_batch_counts

    names, removed = unwrapped(tensors)
    fits = [] if ours else [f"{method} ({backbone})" for method, backbone in fitting(with_batch_counts(names)[0])]
    return {
        "key": key,
        "entries": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values()),
        "types": dict(Counter(str(value.dtype).removeprefix("torch.") for value in tensors.values())),
        "removed": list(removed),
        "first": {
            name: " x ".join(map(str, value.shape)) or "one number" for name, value in list(tensors.items())[:SHOWN]
        },
        "fits": fits,
    }


def _briefly(name: str, value: object) -> str:
    if isinstance(value, int | float | str | bool) or value is None:
        return f"{name} = {str(value)[:60]}"
    return f"{name} ({type(value).__name__}{f' of {len(value)}' if isinstance(value, dict | list | tuple) else ''})"
