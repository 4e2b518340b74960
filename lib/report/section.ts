/** Parts of the sections of a page, as HTML. */
import { escaped } from './chart/index.js'
import type { RunChart } from './run-chart.js'

export function section(id: string, title: string, text: string, body: string): string {
  return `<section id="${id}" aria-labelledby="${id}-title"><div class="side"><h2 id="${id}-title">${title}</h2><p>${text}</p></div><div class="body">${body}</div></section>`
}

/** A chart with its caption, which shows the values of the step under the cursor. */
export function figure(name: string, title: string, { [name]: chart }: Record<string, RunChart>): string {
  if (chart === undefined) return ''
  const read = chart.reads ? `<span class="read" data-read="${name}">${escaped(chart.reads.rest)}</span>` : ''
  return `<figure><figcaption><b>${title}</b>${read}</figcaption><div class="plot" data-chart="${name}">${chart.draw(chart.width).svg}</div></figure>`
}

export function note(kind: 'warn' | 'bad' | 'good', html: string): string {
  return `<p class="note ${kind}">${html}</p>`
}

export function region(label: string, content: string): string {
  return `<div class="scroll" tabindex="0" role="region" aria-label="${label}">${content}</div>`
}

export function capital(words: string): string {
  return `${words[0]?.toUpperCase() ?? ''}${words.slice(1)}`
}

export function definitions(facts: readonly (readonly [string, string])[]): string {
  return `<dl class="facts">${facts.map(([name, html]) => `<dt>${name}</dt><dd>${html}</dd>`).join('')}</dl>`
}
