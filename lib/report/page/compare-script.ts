/** Script of a compare page: draws its charts at the available width, and shows the flips that a reader picks. */
import { compareCharts } from '../compare-charts.js'
import type { ComparePageData } from '../compare-data.js'
import { mountPlots } from './plots.js'

const data = JSON.parse(document.getElementById('data')?.textContent ?? '') as ComparePageData

const picker = document.querySelector<HTMLSelectElement>('#flips')
if (picker?.parentElement) picker.parentElement.hidden = false
picker?.addEventListener('change', () => {
  for (const answers of document.querySelectorAll<HTMLElement>('[data-flips]'))
    answers.hidden = answers.dataset.flips !== picker.value
})

mountPlots(compareCharts(data))
