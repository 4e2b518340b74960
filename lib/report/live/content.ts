/** The sections of a live page: those of the report so far, plus the box for questions. */
import { usualView } from '../run-chart.js'
import { runCharts } from '../run-charts.js'
import type { RunPageData } from '../run-data.js'
import { type RunNames, runSections } from '../run-sections.js'
import { askSection } from './parts.js'

export function liveSections(run: RunPageData, names: RunNames): string {
  const charts = runCharts(run, usualView(run))
  const sections = runSections(run, names, charts)
  const before = charts.loss === undefined ? 0 : 1
  return [...sections.slice(0, before), askSection, ...sections.slice(before)].join('\n')
}
