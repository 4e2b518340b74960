/**
 * The charts of a run in its page: drawn at the available width, with one cursor for all charts that share an x axis,
 * and with display controls.
 */
import { drawMark, formatNumber, isNumber, pixels } from '../chart/index.js'
import { type Drawn, type RunChart, type RunView, usualView, xOf } from '../run-chart.js'
import { runCharts } from '../run-charts.js'
import type { RunPageData } from '../run-data.js'

/** Redraws the charts of a run that has changed. */
export interface MountedRun {
  draw(): void
}

/** Chart containers narrower than this are hidden. */
const LEAST_WIDTH = 40

/** @param run may still grow; call `draw` to show changes */
export function mountRun(root: HTMLElement, run: RunPageData): MountedRun {
  let view = usualView(run)
  let chosen = false
  let cursor: number | null = null
  let charts: Record<string, RunChart> = {}
  let drawn: Record<string, Drawn> = {}
  const all = <E extends HTMLElement>(selector: string) => [...root.querySelectorAll<E>(selector)]
  const one = <E extends HTMLElement>(selector: string) => root.querySelector<E>(selector)

  function draw(): void {
    if (!chosen) view = usualView(run)
    charts = runCharts(run, view)
    drawn = {}
    for (const place of all('.plot[data-chart]')) {
      const name = place.dataset.chart ?? ''
      const width = Math.round(place.getBoundingClientRect().width)
      const chart = charts[name]
      if (chart === undefined || width < LEAST_WIDTH) continue
      const made = chart.draw(width)
      drawn[name] = made
      place.innerHTML = made.svg
    }
    placeScrub()
    showControls()
    point(cursor)
  }

  /** Aligns the slider's thumb with the cursor in the loss chart. */
  function placeScrub(): void {
    const [scrub, loss] = [one('.scrub'), drawn.loss]
    const slider = scrub?.querySelector('input')
    const xs = xOf(run, view)
    const [first, last] = [xs[0], xs.at(-1)]
    if (!scrub || !slider || loss?.x === undefined || first === undefined || last === undefined) return
    const { x, left = 0, width = 0 } = loss
    const begin = xs.findIndex((value) => x(value) >= left - 0.5)
    slider.min = String(Math.max(0, begin))
    slider.max = String(xs.length - 1)
    if (cursor === null) slider.value = slider.max
    scrub.style.paddingLeft = `${Math.max(0, x(xs[Number(slider.min)] as number) - 7)}px`
    scrub.style.paddingRight = `${Math.max(0, width - x(last) - 7)}px`
  }

  function showControls(): void {
    for (const button of all('[data-set]'))
      button.setAttribute(
        'aria-pressed',
        String(view[button.dataset.set as keyof RunView] === button.dataset.value),
      )
    const smooth = one<HTMLInputElement>('[data-smooth]')
    if (!smooth) return
    smooth.value = String(toSlider(view.halfLife, run.columns.step.length))
    const words = view.halfLife === 0 ? 'off' : `${view.halfLife} step${view.halfLife === 1 ? '' : 's'}`
    smooth.setAttribute('aria-valuetext', words)
    const output = smooth.parentElement?.querySelector('output')
    if (output) output.textContent = words
  }

  /** @param index of a step; null for none */
  function point(index: number | null): void {
    cursor = index
    const xs = xOf(run, view)
    for (const [name, { reads }] of Object.entries(charts)) {
      const place = one(`[data-read="${name}"]`)
      const chart = drawn[name]
      if (reads === undefined || place === null || chart === undefined) continue
      const last = xs.length - 1
      const words = index === null && reads.rest !== '' ? reads.rest : reads.words(index ?? last)
      place.textContent = words
      const layer = root.querySelector(`.plot[data-chart="${name}"] .at`)
      if (layer === null || chart.x === undefined || chart.y === undefined) continue
      const x = index === null ? null : chart.x(xs[index] as number)
      const { left = 0, right = 0, top = 0, bottom = 0 } = chart
      if (x === null || x < left - 0.5 || x > right + 0.5) {
        layer.innerHTML = ''
        continue
      }
      const y = reads.column[index as number]
      const dot = isNumber(y) ? drawMark(x, chart.y(y), { hue: reads.hue, shape: 'filled' }, 3.5) : ''
      const at = pixels(x)
      layer.innerHTML = `<line class="cursor" x1="${at}" x2="${at}" y1="${top}" y2="${bottom}"/>${dot}`
    }
    const slider = one<HTMLInputElement>('.scrub input')
    if (slider === null || index === null) return
    slider.value = String(index)
    const { step, loss } = run.columns
    slider.setAttribute('aria-valuetext', `step ${step[index]}, loss ${formatNumber(loss[index])}`)
  }

  function nearest(x: number): number {
    const xs = xOf(run, view)
    let [low, high] = [0, xs.length - 1]
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if ((xs[middle] as number) < x) low = middle
      else high = middle
    }
    return Math.abs((xs[low] as number) - x) < Math.abs((xs[high] as number) - x) ? low : high
  }

  root.addEventListener('pointermove', ({ target, clientX }) => {
    const place = (target as Element).closest<HTMLElement>('.plot[data-chart]')
    const name = place?.dataset.chart ?? ''
    const x = drawn[name]?.x
    if (!place || x === undefined || charts[name]?.reads === undefined || run.columns.step.length === 0)
      return
    const box = place.getBoundingClientRect()
    point(nearest(x.invert(clientX - box.left)))
  })
  root.addEventListener('pointerout', ({ target, relatedTarget, pointerType }) => {
    const left =
      (target as Element).closest('.plot') && !(relatedTarget as Element | null)?.closest?.('.plot')
    if (pointerType === 'mouse' && left) point(null)
  })
  root.addEventListener('input', ({ target }) => {
    const slider = target as HTMLInputElement
    if (slider.closest('.scrub')) point(Number(slider.value))
    if (slider.dataset.smooth === undefined) return
    chosen = true
    view = { ...view, halfLife: fromSlider(Number(slider.value), run.columns.step.length) }
    draw()
  })
  root.addEventListener('click', ({ target }) => {
    const button = (target as Element).closest<HTMLElement>('button')
    if (button?.dataset.set) {
      chosen = true
      cursor = null
      view = { ...view, [button.dataset.set]: button.dataset.value }
      draw()
    }
    if (button?.dataset.copy) void copy(button, document.getElementById(button.dataset.copy))
  })
  for (const part of all('.script')) part.hidden = false
  let width = 0
  new ResizeObserver(() => {
    // Drawing changes only the height, which needs no redraw.
    if (root.clientWidth === width) return
    width = root.clientWidth
    requestAnimationFrame(draw)
  }).observe(root)
  draw()
  return { draw }
}

async function copy(button: HTMLElement, source: HTMLElement | null): Promise<void> {
  if (source === null) return
  try {
    await navigator.clipboard.writeText(source.textContent ?? '')
    button.textContent = 'Copied'
  } catch {
    // Some browsers have no clipboard access on file URLs.
    getSelection()?.selectAllChildren(source)
    button.textContent = 'Selected'
  }
}

/** The slider has 12 positions, from off to a quarter of the run. */
function fromSlider(place: number, steps: number): number {
  return place <= 0 ? 0 : Math.max(1, Math.round(Math.max(2, steps / 4) ** (place / 12)))
}

function toSlider(halfLife: number, steps: number): number {
  if (halfLife <= 0) return 0
  return Math.min(12, Math.max(1, Math.round((12 * Math.log(halfLife)) / Math.log(Math.max(2, steps / 4)))))
}
