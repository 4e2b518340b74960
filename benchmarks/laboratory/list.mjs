/**
 * The figures of the documentation. `seconds` is the time on one core of an AMD EPYC with AVX-512, with all seeds and
 * steps; `flags` are those of figure.mjs, and `{model}`, `{sst2}`, `{train}` and `{test}` are replaced.
 */
import { laboratory } from './load.mjs'

const { STUDIES } = await laboratory('studies/index')

/** A figure of strategies with the bundled model, whose effects it shows. */
const onDemo = (name, seconds) => ({
  ...{ id: name, name, seconds, needs: [], flags: [], seeds: 3 },
  steps: { flag: '--steps', count: STUDIES[name].steps },
})

/** The same with a real model and SST-2, one seed. */
const onModel = (name, seconds, steps = STUDIES[name].steps) => ({
  ...{ id: `${name}-sst2`, name, seconds, needs: ['model', 'sst2'], seeds: 1, onModel: true },
  flags: ['--model', '{model}', '--dataset', '{train}', '--eval-dataset', '{test}'],
  steps: { flag: '--steps', count: steps },
})

export const FIGURES = [
  {
    ...{ id: 'memory', name: 'memory', seconds: 60, needs: ['model'] },
    about:
      'A step of training by category of memory, measured from outside for the first model and planned for larger ones. [Memory](memory.md#categories) explains the categories.',
    flags: ['--model', '{model}', '--precision', 'bf16', '--shapes', 'Llama-2-7B,Qwen2.5-32B,Llama-3.1-70B'],
  },
  onDemo('adalora-ranks', 24),
  onModel('adalora-ranks', 400),
  onDemo('dylora-ranks', 190),
  onDemo('delta-lora', 68),
  onDemo('lora-plus-rates', 325),
  onDemo('dora-directions', 34),
  onModel('dora-directions', 500),
  onDemo('vera-parameters', 175),
  onDemo('lora-drop-importance', 37),
  onModel('lora-drop-importance', 600),
  onDemo('product-ranks', 79),
  {
    ...{ id: 'privacy-utility', name: 'privacy-utility', seconds: 2000, needs: [], seeds: 2 },
    flags: ['--task', 'reviews,complaints,wards,{sst2:ratings},banking,triage'],
    steps: { flag: '--rounds', count: 60 },
  },
  {
    ...{ id: 'canary', name: 'canary', seconds: 120, needs: [], seeds: 5 },
    flags: ['--clients', '200', '--cohort', '20', '--epsilons', '2,8,32'],
    steps: { flag: '--rounds', count: 120 },
  },
]
