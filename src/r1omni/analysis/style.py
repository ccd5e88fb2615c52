"""The page's style sheet: light and dark, wide and narrow, colours of Okabe and Ito."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #22262b; --soft: #616871; --line: #e2dfd8;
  --accent: #0067a6; --second: #b9560b; --quiet: #8d949c; --heat-colour: #0072b2; --tint: #eef4f9;
  --right: #00694d; --wrong: #a83f00; --unreadable: #5b6169;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16191d; --card: #1d2126; --ink: #e4e6e8; --soft: #a2a9b1; --line: #343a41;
    --accent: #66b7ea; --second: #eda35c; --quiet: #7b838c; --heat-colour: #2878ae; --tint: #1f2c37;
    --right: #5fcaa5; --wrong: #f39a62; --unreadable: #b3bac2;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
.top, main { max-width: 1120px; margin: 0 auto; padding: 0 24px; }
.top { padding-top: 48px; }
h1, h2, h3 { line-height: 1.25; font-weight: 600; text-wrap: balance; }
h1, h2 { font-family: ui-serif, Charter, Georgia, "Noto Serif", serif; }
h1 { font-size: 2.2rem; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 1.55rem; margin: 0 0 14px; }
h3 { font-size: 1.02rem; margin: 26px 0 8px; }
.top > p { margin: 6px 0 18px; color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0; padding: 0; list-style: none; }
nav { font-size: 0.9rem; border-block: 1px solid var(--line); padding: 10px 0; }
a { color: var(--accent); text-underline-offset: 3px; text-decoration-thickness: 1px; }
section { padding: 44px 0 0; }
section:last-child { padding-bottom: 72px; }
p { max-width: 76ch; margin: 0 0 12px; }
.points { max-width: 78ch; padding-left: 1.2em; margin: 0 0 14px; }
.points li { margin-bottom: 8px; }
.note { color: var(--soft); font-size: 0.86rem; line-height: 1.5; margin-top: 10px; }
.gap { color: var(--soft); font-size: 0.9rem; font-style: italic; overflow-wrap: anywhere; }
.lead {
  font: 1.28rem/1.45 ui-serif, Charter, Georgia, "Noto Serif", serif;
  max-width: 62ch; text-wrap: pretty;
}
.tiles { display: flex; flex-wrap: wrap; gap: 14px; padding: 0; margin: 18px 0; list-style: none; }
.tiles li {
  flex: 1 1 200px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 18px 14px; line-height: 1.4;
}
.tiles b { display: block; font-size: 1.9rem; font-weight: 600; line-height: 1.25; }
.tiles b span { font-size: 1.1rem; color: var(--soft); font-weight: 400; }
.tiles small { font-size: 0.82rem; }
.care { border-left: 3px solid var(--second); padding: 2px 0 2px 14px; font-size: 0.94rem; }
small { display: block; color: var(--soft); font-size: 0.74rem; line-height: 1.35; }
.hidden {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
}
.scroll { overflow-x: auto; max-width: 100%; position: relative; }
.scroll:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.figures { width: 100%; font-size: 0.92rem; line-height: 1.35; margin-top: 8px; }
.figures th, .figures td {
  padding: 7px 10px; text-align: right; vertical-align: top; white-space: nowrap;
}
.figures tbody tr { border-top: 1px solid var(--line); }
.figures thead th { font-weight: 600; color: var(--soft); font-size: 0.84rem; }
.figures thead th[colspan] { text-align: center; color: var(--ink); }
.figures th[scope="row"], .figures thead tr:first-child th:first-child {
  text-align: left; font-weight: 500; padding-left: 8px;
}
.figures tbody th[scope="row"] { position: sticky; left: 0; background: var(--paper); }
.figures tbody tr.subject th[scope="row"] { background: var(--tint); }
.figures .group th {
  text-align: left; color: var(--soft); font-weight: 500; font-size: 0.82rem; padding: 18px 8px 5px;
  white-space: normal;
}
.figures tr.subject { background: var(--tint); }
.figures tr.subject th, .figures tr.subject td { font-weight: 650; }
.figures tr.subject small { font-weight: 400; }
.figures thead th.subject { color: var(--accent); }
.quiet { color: var(--soft); }
.none { color: var(--quiet); }
.mark { color: var(--soft); font-size: 0.8em; }
.bar {
  display: block; height: 3px; margin: 3px 0 2px auto; width: 64px; border-radius: 2px;
  background: linear-gradient(to right, var(--accent) calc(var(--share) * 100%), var(--line) 0);
}
.recall { table-layout: fixed; min-width: 560px; }
.recall th:nth-child(2), .recall td:nth-child(2) { width: 64px; }
.recall td { padding-top: 5px; padding-bottom: 4px; }
.recall small { display: inline-block; min-width: 58px; }
.recall .bar { width: 100px; }
.costs { max-width: 560px; }
.costs .bar { width: 160px; height: 5px; margin-top: 8px; }

figure { margin: 0; min-width: 0; }
figcaption { font-size: 0.84rem; color: var(--soft); margin-bottom: 4px; line-height: 1.4; }
figcaption strong { color: var(--ink); font-size: 0.95rem; margin-right: 4px; }
.curve strong { display: block; }
.grid3 {
  display: grid; gap: 26px 28px;
  grid-template-columns: repeat(auto-fill, minmax(290px, 1fr));
}
.grid2 {
  display: grid; gap: 26px 32px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr));
}
svg { display: block; width: 100%; height: auto; }
.diagram img {
  display: block; width: 100%; height: auto; background: #ffffff; border-radius: 8px; padding: 6px;
}
svg text { fill: var(--soft); font-size: 11.5px; font-family: inherit; }
svg text.name { font-size: 12px; fill: var(--ink); }
svg text.name.subject { font-weight: 650; }
svg .grid { stroke: var(--line); stroke-width: 1; display: inline; }
svg .interval { stroke-width: 3; stroke-linecap: round; opacity: 0.45; }
svg .interval.subject, svg .dot.subject { stroke: var(--accent); }
svg .interval.other, svg .dot.other { stroke: var(--soft); }
svg .dot.subject { fill: var(--accent); }
svg .dot.other { fill: var(--soft); }
svg .paper { fill: none; stroke: var(--second); stroke-width: 1.6; }
svg .chance { stroke: var(--quiet); stroke-width: 1.4; stroke-dasharray: 2 3; }
svg .ceiling { stroke: var(--quiet); stroke-width: 1.4; }
svg polyline { fill: none; stroke: var(--accent); stroke-linejoin: round; }
svg .raw { stroke-width: 1; opacity: 0.35; }
svg .smooth { stroke-width: 2.2; }
svg .wave { fill: none; stroke: var(--soft); stroke-width: 1.2; }
.key {
  display: flex; flex-wrap: wrap; gap: 4px 22px; color: var(--soft); font-size: 0.84rem;
  max-width: none; margin: 12px 0 18px;
}
.key span { display: flex; align-items: center; gap: 7px; }
.key i { font-style: normal; }
.k-dot { width: 9px; height: 9px; border-radius: 50%; background: var(--accent); }
.k-paper { color: var(--second); }
.k-chance { width: 18px; border-top: 2px dotted var(--quiet); }
.k-ceiling { width: 18px; border-top: 2px solid var(--quiet); }

.matrix { font-size: 0.82rem; line-height: 1.2; }
.matrix td { width: 40px; min-width: 34px; height: 32px; text-align: center; padding: 2px; }
.matrix tbody td {
  background: color-mix(in srgb, var(--heat-colour) var(--heat), var(--card));
  border: 1px solid var(--paper);
}
.matrix td.strong { color: #ffffff; }
.matrix td.zero { color: var(--quiet); }
.matrix td.right { outline: 1.5px solid var(--ink); outline-offset: -2px; }
.matrix th { font-weight: 500; }
.matrix th[scope="row"] { text-align: right; padding-right: 8px; }
.matrix th[scope="col"] { vertical-align: bottom; padding: 0 0 5px; }
.matrix th span { writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; }

.clips { display: grid; gap: 18px; margin-top: 16px; }
.clip {
  display: grid; grid-template-columns: minmax(0, 350px) minmax(0, 1fr); gap: 6px 28px;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px;
}
.clip h3 { margin: 0; }
.clip header p { margin: 0 0 8px; font-size: 0.9rem; color: var(--soft); }
.clip header p strong { color: var(--ink); }
.frames { display: grid; grid-template-columns: repeat(4, 1fr); gap: 4px; margin-bottom: 6px; }
.frames img { width: 100%; height: auto; display: block; border-radius: 4px; }
.answers { margin: 0; display: grid; gap: 10px; align-content: start; }
.answers > div { display: grid; grid-template-columns: 128px minmax(0, 1fr); gap: 0 14px; }
.answers dt { font-size: 0.88rem; color: var(--soft); padding-top: 1px; }
.answers .subject dt { color: var(--accent); font-weight: 650; }
.answers dd { margin: 0; font-size: 0.92rem; }
.answers dd p { margin: 2px 0 0; font-size: 0.86rem; line-height: 1.5; overflow-wrap: anywhere; }
.answers .note { font-size: 0.82rem; }
.verbatim { font-family: ui-monospace, Menlo, Consolas, monospace; color: var(--soft); }
.verdict {
  display: inline-block; border: 1px solid currentColor; border-radius: 99px; padding: 0 9px;
  font-size: 0.78rem; line-height: 1.5; font-weight: 600; margin-right: 4px;
}
.verdict.right { color: var(--right); }
.verdict.wrong { color: var(--wrong); }
.verdict.unreadable { color: var(--unreadable); border-style: dashed; }

@media (max-width: 720px) {
  .top, main { padding: 0 16px; }
  .top { padding-top: 28px; }
  h1 { font-size: 1.75rem; }
  section { padding-top: 36px; }
  .grid3 { grid-template-columns: minmax(0, 1fr); }
  .figures { font-size: 0.86rem; }
  .figures th, .figures td { padding: 6px 7px; }
  .figures th[scope="row"] { white-space: normal; min-width: 92px; max-width: 130px; }
  .clip { grid-template-columns: minmax(0, 1fr); padding: 14px; }
  .answers > div { grid-template-columns: minmax(0, 1fr); }
  .matrix td { width: 32px; min-width: 28px; }
}
@media print { nav { display: none; } .clip { break-inside: avoid; } body { background: none; } }
"""
