"""One bar chart of ratios as SVG: a group per network, a bar per comparison, whiskers from the 10th to the 90th
percentile, a line where both are equally fast."""

from xml.sax.saxutils import escape

COLORS = {"default": "#1668b8", "strict": "#5b3ea8", "bf16": "#c2571a", "fp16": "#2b8a3e"}
# class, peer, title
DUELS = (("default", "ort", "default : ORT fp32"), ("default", "openvino", "default : OV fp32"),
         ("strict", "ort", "strict : ORT fp32"), ("bf16", "openvino_bf16", "bf16 : OV bf16"))
LEFT, RIGHT, TOP, BAR, GAP, WIDTH = 190, 60, 64, 13, 14, 900


def _ticks(top):
    step = next(s for s in (0.5, 1, 2, 5, 10, 20, 50, 100) if top / s <= 12 or s == 100)
    return [step * n for n in range(int(top / step) + 1)]


def drawn(rows):
    """The text of the file; rows as bench/cpu makes them."""
    bars = [(row, [(kind, peer, row["ratios"][f"{kind}:{peer}"]) for kind, peer, _ in DUELS
                   if f"{kind}:{peer}" in row["ratios"]]) for row in rows]
    top = max([1.0] + [got["p90"] for _, group in bars for _, _, got in group]) * 1.05
    at = lambda value: LEFT + (WIDTH - LEFT - RIGHT) * value / top
    height = TOP + sum(BAR * len(group) + GAP for _, group in bars) + 34
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
           f'<text x="{LEFT}" y="20" font-size="15" fill="#222">Time of the peer over the time of Sinter, batch 1</text>']
    for n, (kind, peer, title) in enumerate(DUELS):
        x = LEFT + n * 150
        out.append(f'<rect x="{x}" y="32" width="11" height="11" fill="{COLORS[kind]}" fill-opacity="{_shade(peer)}"/>'
                   f'<text x="{x + 16}" y="42" fill="#222">{escape(title)}</text>')
    for value in _ticks(top):
        out.append(f'<line x1="{at(value):.1f}" x2="{at(value):.1f}" y1="{TOP - 6}" y2="{height - 28}" stroke="#ddd"/>'
                   f'<text x="{at(value):.1f}" y="{height - 12}" text-anchor="middle" fill="#555">{value:g}</text>')
    y = TOP
    several = len({row["threads"] for row in rows}) > 1
    for row, group in bars:
        name = row["network"] + (f", {row['threads']} threads" if several else "")
        out.append(f'<text x="{LEFT - 10}" y="{y + BAR * len(group) / 2 + 4:.1f}" text-anchor="end" fill="#222">'
                   f'{escape(name)}</text>')
        for kind, peer, got in group:
            middle = y + BAR / 2
            out.append(f'<rect x="{LEFT}" y="{y}" width="{at(got["ratio"]) - LEFT:.1f}" height="{BAR - 2}" '
                       f'fill="{COLORS[kind]}" fill-opacity="{_shade(peer)}"/>'
                       f'<line x1="{at(got["p10"]):.1f}" x2="{at(got["p90"]):.1f}" y1="{middle - 1}" y2="{middle - 1}" '
                       f'stroke="#222"/><text x="{at(got["p90"]) + 5:.1f}" y="{y + BAR - 3}" font-size="10" '
                       f'fill="#222">{got["ratio"]:.2f}</text>')
            y += BAR
        y += GAP
    out.append(f'<line x1="{at(1):.1f}" x2="{at(1):.1f}" y1="{TOP - 6}" y2="{height - 28}" stroke="#b00020" '
               f'stroke-dasharray="4 3"/>')
    return "\n".join(out) + "\n</svg>\n"


def _shade(peer):
    return 0.55 if peer == "openvino" else 1
