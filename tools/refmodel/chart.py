"""Small line charts as SVG text, without a plotting library."""
import math
from html import escape

COLOURS = ["#1d4ed8", "#c2410c", "#047857", "#6b7280"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 680, 340, 72, 16, 40, 46


def ticks(low, high, n=5):
    """About n round values within [low, high]."""
    raw = (high - low) / n
    unit = 10 ** math.floor(math.log10(raw))
    step = next(k * unit for k in (1, 2, 2.5, 5, 10) if k * unit >= raw * 0.999)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def lines(series, x_label, y_label, y_range=None, reverse=False, mark=None):
    """series: [(name, [(x, y), …], dashed)]; mark: (x, name) of a vertical line. reverse: large x on the left."""
    xs = [x for _, points, _ in series for x, _ in points]
    ys = [y for _, points, _ in series for _, y in points]
    x0, x1 = min(xs), max(xs)
    y0, y1 = y_range or (min(ys) - 0.05 * (max(ys) - min(ys) or 1), max(ys) + 0.05 * (max(ys) - min(ys) or 1))
    span = WIDTH - LEFT - RIGHT

    def px(x):
        share = (x - x0) / ((x1 - x0) or 1)
        return LEFT + span * (1 - share if reverse else share)

    def py(y):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - y0) / (y1 - y0)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           'font-family="system-ui, sans-serif" font-size="12" fill="#1f2937">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for y in ticks(y0, y1):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#e5e7eb"/>'
                   f'<text x="{LEFT - 6}" y="{py(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(x0, x1, 10):
        out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    if mark:
        side, anchor = (-5, "end") if px(mark[0]) > WIDTH / 2 else (5, "start")
        out.append(f'<line x1="{px(mark[0]):.1f}" x2="{px(mark[0]):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#9ca3af" stroke-dasharray="2 3"/>'
                   f'<text x="{px(mark[0]) + side:.1f}" y="{TOP + 12}" text-anchor="{anchor}" fill="#4b5563">{escape(mark[1])}</text>')
    legend = LEFT
    for colour, (name, points, dashed) in zip(COLOURS, series):
        dash = ' stroke-dasharray="6 4"' if dashed else ""
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        if len(points) < 30:
            out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        out.append(f'<line x1="{legend}" x2="{legend + 22}" y1="18" y2="18" stroke="{colour}" stroke-width="2"{dash}/>'
                   f'<text x="{legend + 28}" y="22">{escape(name)}</text>')
        legend += 44 + 6.3 * len(name)
    out.append(f'<text x="{LEFT + span / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
               f'<text transform="translate(14 {(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text></svg>')
    return "\n".join(out) + "\n"
