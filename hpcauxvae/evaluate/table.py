"""The scores of an evaluation as lines of text: what `hpcauxvae evaluate` prints."""

from typing import Any


def table(sets: dict[str, Any]) -> str:
    """The scores of each set beside their ceilings, and below them what they say in words."""
    lines = [f"{'score':28}{'value':>8}  {'95 % interval':24}{'ceiling':>9}{'of it':>8}{'n':>9}"]
    for name, block in sets.items():
        lines.append(f"{name}: {block['data']}")
        ceilings = {"ssim": block["noiseless"]["ssim"]["value"]} if "noiseless" in block else {}
        for score_name in ("lds", "lds_d", "lds_mean", "lds_d_mean", "sap", "mig"):
            if score := block["codes"].get(score_name):
                lines.append(_table_row(score_name, score, score.get("attainable")))
        for score_name in ("ssim", "mse"):
            lines.append(_table_row(score_name, block["images"][score_name], ceilings.get(score_name)))
        lines += _control_rows(block.get("control") or {})
        lines += [f"  - {line}" for line in block["verdicts"]]
    return "\n".join(lines)


def _control_rows(block: dict[str, Any]) -> list[str]:
    """What the reader finds beside what it finds in real images; then the image distances of counterfactuals."""
    rows = []
    for factor, found in (block.get("effectiveness") or {}).items():
        for name, label in (("r", "asked and read, r"), ("slope", "slope")):
            rows.append(_table_row(f"{factor}: {label}", found["asked"][name], found["real"][name]["value"]))
    if block:
        composition = block["composition"]
        again = f"composition, {composition['cycles']} times"
        named = {"composition": composition["once"], again: composition["again"]}
        named |= {name: block[name] for name in ("reversibility", "minimality")}
        rows += [_table_row(name, score, None) for name, score in named.items() if score]
    return rows


def _table_row(name: str, score: dict[str, Any], ceiling: float | None) -> str:
    interval = f"[{score['low']:.4g}, {score['high']:.4g}]"
    beside = f"{ceiling:9.4f}{score['value'] / ceiling:8.3f}" if ceiling else " " * 17
    return f"  {name:26}{score['value']:8.4g}  {interval:24}{beside}{score['n']:9d}"
