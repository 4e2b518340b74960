/**
 * The report page of a run: one self-contained HTML file without network access. It is complete without its script,
 * which redraws the charts at the window's width and adds interaction.
 */
import { chartStyle, DARK, escaped, LIGHT } from './chart/index.js'
import { pageFile, scriptData, sourceHash } from './page-files.js'
import { usualView } from './run-chart.js'
import { runCharts } from './run-charts.js'
import { packRun, type RunPageData } from './run-data.js'
import { type RunNames, runHead, runSections } from './run-sections.js'

export function runPage(run: RunPageData, names: RunNames): string {
  return servedRunPage(run, names).html
}

/** The page with its policy, to be served. */
export function servedRunPage(run: RunPageData, names: RunNames): MadePage {
  const charts = runCharts(run, usualView(run))
  return page({
    title: names.name,
    styles: ['run.css'],
    script: 'run-script.js',
    data: packRun(run),
    content: `${runHead(run, names)}
<main id="main">
${runSections(run, names, charts).join('\n')}
</main>
<footer>Made by lowrank from the record of the run. This file loads nothing from any network.</footer>`,
  })
}

export interface Page {
  title: string
  /** Files in lib/report/page, in addition to page.css. */
  styles: readonly string[]
  /** Default: none. */
  script?: string
  /** Passed to the script. */
  data?: unknown
  content: string
  /** Where the link for keyboards and screen readers leads. */
  skip?: string
  /** True if it connects to the server it came from. Default false. */
  connects?: boolean
}

/** A page, and its policy for use as a header. */
export interface MadePage {
  html: string
  policy: string
}

/** A page with a policy that allows only its own style and script. */
export function page({
  title,
  styles,
  script,
  data,
  content,
  skip = 'the charts',
  connects = false,
}: Page): MadePage {
  const dark = `@media screen and (prefers-color-scheme: dark) {\n${chartStyle(DARK)}\n}`
  const style = [...['page.css', ...styles].map(pageFile), chartStyle(LIGHT), dark].join('\n')
  const code = script === undefined ? undefined : pageFile(script)
  const connect = connects ? "; connect-src 'self'" : ''
  const scripts = code === undefined ? '' : `; script-src ${sourceHash(code)}`
  const policy = `default-src 'none'; style-src ${sourceHash(style)}${scripts}${connect}; img-src data:; base-uri 'none'; form-action 'none'`
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${escaped(title)} · lowrank</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to ${skip}</a>
${content}
${code === undefined ? '' : `${dataElement(data)}<script>${code}</script>\n`}</body>
</html>
`
  return { html, policy }
}

function dataElement(data: unknown): string {
  return data === undefined ? '' : `<script type="application/json" id="data">${scriptData(data)}</script>\n`
}
