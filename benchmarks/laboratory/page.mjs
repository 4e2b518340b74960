/** The part of docs/results.md that shows the figures, from their results. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatDuration } from '../../dist/esm/cli/format.js'
import { withMarked } from '../../scripts/markdown.mjs'
import { FIGURES } from './list.mjs'

const NOTE = '<!-- made by benchmarks/laboratory/figures.mjs from docs/results/*.json -->'

/** The page with a section for each figure that has a result. */
export function withFigures(page, docs) {
  const sections = FIGURES.flatMap(({ id, about }) => {
    const file = join(docs, 'results', `${id}.json`)
    return existsSync(file)
      ? [section(id, { reading: about, ...JSON.parse(readFileSync(file, 'utf8')) })]
      : []
  })
  return withMarked(page, 'docs/results.md', { figures: [NOTE, ...sections].join('\n\n') })
}

function section(id, { reading, made }) {
  const { title, command, date, seconds, machine, cut } = made
  return [
    `### ${title}`,
    `![${title}](images/${id}.svg)`,
    reading,
    `${cut === null ? '' : `Cut to fit a time: ${cut}. `}${date}, ${formatDuration(seconds)} on one thread of ${machine}; [numbers](results/${id}.json):`,
    `\`\`\`sh\n${command}\n\`\`\``,
  ].join('\n\n')
}
