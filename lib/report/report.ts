/** Writes a run's report.html from its record. */
import { basename, join, resolve } from 'node:path'
import { REPORT, type RunFolders, savedConfigText } from '../train/folders/output-folder.js'
import { writeOwnFile } from '../train/folders/run-files.js'
import type { MetricsLine } from '../train/records/event-schemas.js'
import { readMetrics } from '../train/records/metrics-file.js'
import { svgDocument } from './chart/index.js'
import { usualView } from './run-chart.js'
import { runCharts } from './run-charts.js'
import { runFrom } from './run-data.js'
import { runPage } from './run-page.js'

/** The report of a private run contains private data, so it is stored with the record. */
export async function writeReport({ outputDir, runDir }: RunFolders): Promise<string> {
  const run = runFrom(await readMetrics(runDir))
  // Only the command line writes a config; without a command it belongs to an earlier run.
  const own = run.start?.command ?? null
  const config = own === null ? null : await savedConfigText(runDir)
  const path = join(runDir, REPORT)
  await writeOwnFile(runDir, REPORT, runPage(run, { name: basename(resolve(outputDir)), config }))
  return path
}

const CURVE_WIDTH = 720

/** The losses of a run as a picture; undefined before its first step. */
export function lossCurve(lines: readonly MetricsLine[], title: string): string | undefined {
  const run = runFrom(lines)
  const chart = runCharts(run, usualView(run)).loss
  return chart && svgDocument(chart.draw(CURVE_WIDTH).svg, { title })
}
