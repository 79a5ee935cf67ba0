"""Style sheet of the report: light or dark as the reader's system asks, nothing fetched."""

STYLE = """
:root { --ink: #1c2430; --dim: #66707f; --paper: #f5f6f8; --card: #ffffff; --line: #e1e5ea;
  --good: #1f8a5b; --bad: #c93a3a; --warn: #b26a00; --blue: #2f6fd6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebf0; --dim: #98a2b1; --paper: #14171c;
  --card: #1d2128; --line: #2f353e; --good: #4cc38a; --bad: #ff6b6b; --warn: #f0a43a;
  --blue: #6ea3ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
header { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: center;
  border-bottom: 1px solid var(--line); margin-bottom: 18px; }
h1 { font-size: 26px; margin: 0 0 10px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 34px 0 10px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 8px; display: flex; flex-wrap: wrap;
  gap: 4px 8px; align-items: center; }
small { color: var(--dim); font-weight: 400; }
ul { color: var(--dim); padding-left: 18px; margin: 8px 0; }
.pills { margin: 0 0 10px; display: flex; flex-wrap: wrap; gap: 6px; }
.pill { font-size: 12px; font-weight: 600; padding: 1px 9px; border-radius: 99px;
  border: 1px solid var(--line); background: var(--card); white-space: nowrap; }
.pill.good { color: var(--good); border-color: currentColor; }
.pill.bad { color: var(--bad); border-color: currentColor; }
.pill.warn { color: var(--warn); border-color: currentColor; }
.pill.dim { color: var(--dim); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin: 18px 0; }
.card, article, figure, details { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.card { padding: 12px 14px; }
.card b { display: block; font-size: 24px; letter-spacing: -0.02em; }
.card span { color: var(--dim); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 12px; }
figure { margin: 0; padding: 14px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--dim); font-size: 11px; }
svg text.strong { fill: var(--ink); font-size: 14px; font-weight: 600; }
.axis, .chance { fill: none; stroke: var(--line); }
.chance, .threshold { stroke-dasharray: 4 4; }
.threshold { stroke: var(--ink); stroke-width: 1.5; }
.curve { fill: none; stroke: var(--blue); stroke-width: 2; }
.good-bar { fill: var(--good); } .defective-bar { fill: var(--bad); }
.unlabelled-bar { fill: var(--blue); }
table { border-collapse: collapse; background: var(--card); font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 14px; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; }
.tables { display: flex; flex-wrap: wrap; gap: 0 36px; }
thead th { color: var(--dim); font-weight: 500; font-size: 13px; }
article { padding: 12px 14px; margin-bottom: 12px; }
article p { margin: 0 0 8px; color: var(--warn); }
article img { width: 100%; border-radius: 6px; display: block; }
.score { color: var(--blue); font-variant-numeric: tabular-nums; }
details { padding: 10px 14px; margin-top: 30px; }
summary { cursor: pointer; font-weight: 600; }
details td { text-align: left; overflow-wrap: anywhere; }
@media print { article { break-inside: avoid; } }
"""
