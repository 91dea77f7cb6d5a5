"""How the report looks: one style sheet, for screens of any width, light and dark, and for paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --ink: #1d2023; --soft: #5d646b; --line: #dfe1de; --wash: #f2f3f0;
  --accent: #00619a; --bad: #b3261e; --bad-wash: #fbeceb; --shade: rgba(20, 24, 28, .16);
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #17191c; --ink: #e4e6e8; --soft: #9ba3ab; --line: #33383d; --wash: #1f2327;
    --accent: #74bdec; --bad: #ff938a; --bad-wash: #34201f; --shade: rgba(0, 0, 0, .6);
  }
  .card { filter: brightness(.94); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding-top: 1rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word; hyphens: manual;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Arial, sans-serif;
}
a { color: var(--accent); text-decoration-thickness: .06em; text-underline-offset: .18em; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
code, pre { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
sup, sub { font-size: .72em; line-height: 0; white-space: nowrap; }
.page { max-width: 74rem; margin: 0 auto; padding: 2.5rem 1rem 4rem; }
header, main > section, footer { max-width: 58rem; }
p, h1, h2, h3, summary, .verdict, .problems, .command, .more { max-width: 44rem; }
nav { display: none; }

.overline { margin: 0 0 .4rem; color: var(--soft); font-size: .82rem; letter-spacing: .02em; }
h1 { margin: 0 0 1rem; font-size: clamp(1.6rem, 1.2rem + 1.9vw, 2.2rem); line-height: 1.18; font-weight: 650;
  letter-spacing: -.018em; text-wrap: balance; }
h2 { margin: 0; font-size: 1.5rem; line-height: 1.25; font-weight: 650; letter-spacing: -.012em; }
h3 { margin: 0 0 .5rem; font-size: .94rem; font-weight: 600; }
main > section { margin-top: 3.5rem; padding-top: 1.6rem; border-top: 1px solid var(--line); }
.question { margin: .5rem 0 1.25rem; font-size: 1.08rem; color: var(--soft); text-wrap: pretty; }

.findings { width: 100%; margin: 1.5rem 0 2rem; border-collapse: collapse; }
.findings th, .findings td { padding: .7rem 0; border-top: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
.findings tr:last-child > * { border-bottom: 1px solid var(--line); }
.findings th { width: 12.5rem; padding-right: 1.5rem; font-weight: 600; }
.findings th a { text-decoration: none; }
.findings th a:hover { text-decoration: underline; }
.state { display: inline-block; font-size: .8rem; font-weight: 500; color: var(--soft); }
.state.bad { color: var(--bad); font-weight: 600; }
.pending { color: var(--soft); }

dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1.25rem; margin: 0;
  font-size: .86rem; }
dt { color: var(--soft); }
dd { margin: 0; }

.verdict { margin: 0 0 1.75rem; padding: .1rem 0 .1rem 1.1rem; border-left: 3px solid var(--accent); }
.verdict p { margin: 0 0 .55rem; }
.verdict p:last-child { margin: 0; }
.verdict .label { margin: 0 0 .2rem; color: var(--accent); font-size: .82rem; font-weight: 600; letter-spacing: .02em; }
.problems { margin: 0 0 1.5rem; padding: .8rem 1.1rem; border-left: 3px solid var(--bad); background: var(--bad-wash);
  color: var(--bad); }
.problems p { margin: 0; font-weight: 600; }
.problems ul { margin: .4rem 0 0; padding-left: 1.1rem; font-size: .86rem; }

figure { margin: 0 0 1.75rem; max-width: 44rem; }
.scroll { overflow-x: auto; -webkit-overflow-scrolling: touch; }
.card { background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .6rem; }
.card svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: .5rem; font-size: .86rem; color: var(--soft); }
figcaption b { color: var(--ink); font-weight: 600; }

.table { margin: 0 0 1.75rem; }
.table .scroll {
  background: linear-gradient(to right, var(--paper) 1.2rem, transparent 2.4rem) left / 2.4rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 1.2rem, transparent 2.4rem) right / 2.4rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .6rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .6rem 100% no-repeat scroll;
}
table.numbers { border-collapse: collapse; font-size: .84rem; line-height: 1.35;
  font-variant-numeric: tabular-nums lining-nums; }
.table th, .table td { padding: .34rem 1rem .34rem 0; text-align: right; white-space: nowrap; font-weight: 400;
  border-bottom: 1px solid var(--line); }
.table :is(th, td):last-child { padding-right: .2rem; }
.table .name { text-align: left; }
.table thead th { border-bottom-color: var(--soft); color: var(--soft); font-weight: 500; vertical-align: bottom; }
details { margin: 0 0 1rem; }
summary { cursor: pointer; font-size: .94rem; font-weight: 600; padding: .2rem 0; }
summary small { margin-left: .4rem; white-space: nowrap; font-size: .86rem; font-weight: 400; color: var(--soft); }
details[open] > summary { margin-bottom: .5rem; }
.more { margin-top: 1.75rem; padding-top: .9rem; border-top: 1px dotted var(--line); }
.more details { margin: 0 0 .2rem; }
.more details[open] { margin-bottom: 1rem; }
.more details p { margin: 0 0 .6rem; font-size: .92rem; }
.more summary { font-weight: 500; color: var(--soft); }
.cost { margin: 0 0 .6rem; font-size: .86rem; color: var(--soft); }
.command { margin: 0 0 .9rem; padding: .55rem .8rem; background: var(--wash); border-radius: 6px;
  white-space: pre-wrap; }
footer { margin-top: 4rem; padding-top: 1.2rem; border-top: 1px solid var(--line); font-size: .86rem;
  color: var(--soft); }

@media (max-width: 40rem) {
  .page { padding-top: 1.5rem; }
  .findings th, .findings td { display: block; width: auto; padding: 0; }
  .findings th { padding-top: .8rem; }
  .findings td { border-top: 0; padding-bottom: .8rem; }
  .findings tr:last-child th { border-bottom: 0; }
  .card { padding: .3rem; margin: 0 -.25rem; }
  .card svg { width: auto; min-width: calc(var(--width) * 1.25px); }
  table.numbers { font-size: .79rem; }
  .table th, .table td { padding-right: .85rem; }
  dl.facts { display: block; }
  dl.facts dd { margin-bottom: .5rem; }
}
@media (min-width: 68rem) {
  .page { display: grid; grid-template-columns: 11.5rem minmax(0, 1fr); column-gap: 3rem; padding: 3.5rem 2rem 6rem; }
  nav { display: block; position: sticky; top: 2rem; align-self: start; max-height: calc(100vh - 4rem);
    overflow-y: auto; font-size: .86rem; line-height: 1.35; }
  nav p { margin: 0 0 .6rem; font-weight: 600; }
  nav ol { list-style: none; margin: 0; padding: 0; border-left: 1px solid var(--line); }
  nav a { display: block; padding: .22rem 0 .22rem .9rem; margin-left: -1px; border-left: 1px solid transparent;
    color: var(--soft); text-decoration: none; }
  nav a:hover { color: var(--ink); border-left-color: var(--accent); }
  nav .state { font-size: .74rem; }
}
@media print {
  @page { margin: 16mm 15mm; }
  :root {
    --paper: #fff; --ink: #000; --soft: #444; --line: #ccc; --wash: #f4f4f4; --accent: #00507f; --bad: #9a1c15;
    --bad-wash: #fff; --shade: transparent;
  }
  body { font-size: 9.5pt; }
  .page { display: block; max-width: none; padding: 0; }
  nav { display: none; }
  .table { font-size: 8pt; }
  .table .scroll { overflow: visible; background: none; }
  .table th, .table td { padding-right: .6rem; }
  .card { border: 0; padding: 0; filter: none; }
  figure, tr, .verdict, .problems { break-inside: avoid; }
  h2, h3, summary, .overline, .question { break-after: avoid; }
  summary { list-style: none; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  a { color: inherit; text-decoration: none; }
}
"""
