/** The content of a live page: the report of the run as far as it has come, with the box for questions. */
import { runCharts, usualView } from '../run-charts.js'
import type { RunPageData } from '../run-data.js'
import { type RunNames, runHead, runSections } from '../run-sections.js'
import { askSection } from './parts.js'

/** Content that changes while the run goes on. */
export interface LiveContent {
  head: string
  main: string
}

export function liveContent(run: RunPageData, names: RunNames): LiveContent {
  const charts = runCharts(run, usualView(run))
  const sections = runSections(run, names, charts)
  const before = charts.loss === undefined ? 0 : 1
  const main = [...sections.slice(0, before), askSection, ...sections.slice(before)].join('\n')
  return { head: runHead(run, names), main }
}
