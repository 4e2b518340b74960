/** The live page of a run as one HTML file without outside requests. */
import { escaped } from '../chart/index.js'
import { chartStyle, DARK, LIGHT } from '../chart/palette.js'
import { pageFile, scriptData, sourceHash } from '../page-files.js'
import { askSection, liveBar, liveMessage, stopDialog } from './parts.js'
import type { ServedPage } from './server.js'

/** @param name of the run */
export function livePage(name: string): ServedPage {
  const dark = `@media (prefers-color-scheme: dark) {\n${chartStyle(DARK)}\n}`
  const style = [pageFile('page.css'), pageFile('live.css'), chartStyle(LIGHT), dark].join('\n')
  const script = pageFile('live-script.js')
  const policy = `default-src 'none'; style-src ${sourceHash(style)}; script-src ${sourceHash(script)}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'`
  const html = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(name)} · lowrank</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body>
${liveBar}
<header class="top"><h1>${escaped(name)}</h1>${liveMessage}</header>
<main>
<section aria-labelledby="loss-h">
<div class="side"><h2 id="loss-h">Loss</h2><p>Nats per supervised token, lower is better. Faint: every step. Line: its running mean. Dots: held-out data.</p></div>
<div class="body"><div class="plot" id="loss"></div></div>
</section>
${askSection}
</main>
<footer>Served by lowrank from the event log of the run. Closing this page changes nothing.</footer>
${stopDialog}
<script type="application/json" id="data">${scriptData({ name })}</script>
<script>${script}</script>
</body>
</html>
`
  return { html, policy }
}
