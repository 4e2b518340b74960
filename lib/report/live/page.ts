/** The live page of a run: its report so far, and a script that follows the log from there. */
import type { MetricsLine } from '../../train/records/event-schemas.js'
import { packRun, runFrom } from '../run-data.js'
import { page } from '../run-page.js'
import { runHead } from '../run-sections.js'
import { liveSections } from './content.js'
import { LOG_START, positionId, readLog } from './log.js'
import { liveBar, stopDialog } from './parts.js'
import type { ServedPage } from './server.js'

/**
 * @param name of the run
 * @param log path; undefined before it exists
 * @param config the complete config file, if there is one
 */
export async function livePage(
  name: string,
  log: string | undefined,
  config: string | null = null,
): Promise<ServedPage> {
  const lines: MetricsLine[] = []
  let position = LOG_START
  while (log !== undefined) {
    const read = await readLog(log, position)
    if (read.lines.length === 0) break
    if (read.reset) lines.length = 0
    lines.push(...read.lines.flatMap(parsed))
    position = read.position
  }
  const run = runFrom(lines)
  const names = { name, config, live: true }
  return page({
    title: name,
    styles: ['run.css', 'live.css'],
    script: 'live-script.js',
    connects: true,
    data: { names, run: packRun(run), position: positionId(position) },
    content: `${liveBar}
<div id="head">${runHead(run, names)}</div>
<main id="main">
${liveSections(run, names)}
</main>
<footer>Served by lowrank from the record of the run. Closing this page changes nothing.</footer>
${stopDialog}`,
  })
}

function parsed(line: string): MetricsLine[] {
  try {
    return [JSON.parse(line) as MetricsLine]
  } catch {
    return []
  }
}
