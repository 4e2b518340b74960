/** Data of tasks other than the next token. */

export const lines = (rows: object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('')

const pairs = Array.from({ length: 24 }, (_, i) => ({
  prompt: `Colour of thing ${i}?`,
  chosen: `It is ${['red', 'blue', 'green'][i % 3]}.`,
  rejected: `No ${'idea '.repeat(1 + (i % 4))}at all.`,
}))
const answers = pairs.flatMap(({ prompt, chosen, rejected }) => [
  { prompt, completion: chosen, label: true },
  { prompt, completion: rejected, label: false },
])
export const moods = Array.from({ length: 24 }, (_, i) => ({
  text: `${['A fine', 'A dull'][i % 2]} film ${i}`,
  label: ['good', 'bad'][i % 2],
}))

/** Training by rewards, which is not shared by ranks; its functions are in a module. */
export const REWARDED = {
  rows: pairs.map(({ prompt, chosen }) => ({ prompt, completion: chosen })),
  settings: { reward_functions: 'rewards.mjs', num_generations: 4, max_completion_length: 12 },
  module: `
const capitals = /[A-Z]/g
export const shouting = ({ prediction }) => (prediction.match(capitals) ?? []).length / 12
export const exact = async ({ prediction, expected }) => Number(prediction === expected)
`,
}

/** Rows of each task, and settings of a run. */
export const TASKS = {
  dpo: { rows: pairs, settings: { beta: 0.2 } },
  orpo: { rows: pairs, settings: {} },
  kto: { rows: answers, settings: { undesirable_weight: 1.5 } },
  classification: { rows: moods, settings: { class_weights: { good: 2 } } },
}
