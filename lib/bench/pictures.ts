/** The frame of a figure in a file: its width, its title, and the lines that explain it. */
import { svgDocument, widthOf } from '../report/chart/index.js'

/** Width of every figure without its margins, in pixels. */
export const FIGURE_WIDTH = 720

/** A figure as a file: a chart with a title, and lines that explain how it was made and how to read it. */
export function figureSvg(chart: string, title: string, lines: readonly string[]): string {
  return svgDocument(chart, { title, lines: lines.flatMap(wrapped) })
}

/** Wraps text to a figure's width. */
function wrapped(words: string): string[] {
  const lines = ['']
  for (const word of words.split(' ')) {
    const line = lines.at(-1) as string
    if (line !== '' && widthOf(`${line} ${word}`) > 1.1 * FIGURE_WIDTH) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines
}
