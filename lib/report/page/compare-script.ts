/** Script of a compare page: draws its charts at the available width. */
import { compareCharts } from '../compare-charts.js'
import type { ComparePageData } from '../compare-data.js'

const data = JSON.parse(document.getElementById('data')?.textContent ?? '') as ComparePageData
const charts = compareCharts(data)
let width = 0

function draw(): void {
  for (const place of document.querySelectorAll<HTMLElement>('.plot[data-chart]')) {
    const room = Math.round(place.getBoundingClientRect().width)
    const chart = charts[place.dataset.chart ?? '']
    if (chart !== undefined && room > 40) place.innerHTML = chart.draw(room)
  }
}

const picker = document.querySelector<HTMLSelectElement>('#flips')
if (picker?.parentElement) picker.parentElement.hidden = false
picker?.addEventListener('change', () => {
  for (const answers of document.querySelectorAll<HTMLElement>('[data-flips]'))
    answers.hidden = answers.dataset.flips !== picker.value
})

new ResizeObserver(() => {
  // Drawing changes only the height, which needs no redraw.
  if (document.body.clientWidth === width) return
  width = document.body.clientWidth
  requestAnimationFrame(draw)
}).observe(document.body)
