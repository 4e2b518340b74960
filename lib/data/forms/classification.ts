/** Texts with their classes, which a head for classes predicts. */
import { describe, rowError } from '../dataset/place.js'
import type { ClassificationRow } from '../rows.js'
import type { Form } from './form.js'

export const classification: Form<ClassificationRow> = {
  name: 'classification',
  precedence: 70,
  expected: '{"text": …, "label": …}',
  columns: { text: 'the text', label: 'the class' },
  ofTask: {},
  read(value, { place, wrong }) {
    const { text, label } = value
    if (typeof text !== 'string') throw wrong('text')
    if (label === undefined || label === null) throw wrong('label')
    if (!['string', 'number', 'bigint', 'boolean'].includes(typeof label) || label === '')
      throw rowError(place, `"label" must be a name or a number, not ${describe(label)}`)
    return { format: 'classification', text, label: String(label), ...place }
  },
  rows: {
    classified: ({ text }) => text,
    label: { of: ({ label }) => label, with: (row, label) => ({ ...row, label }) },
    question: ({ text, label }) => ({ prompt: text, expected: label, system: null }),
    opening: ({ text }) => text.trim().split('\n', 1)[0] as string,
    texts: ({ text, label }) => [text, label],
    empty: () => 'the text is empty',
  },
  untasked: ({ text = 'text', label = 'label' }) => ({
    format: 'prompt_completion',
    columns: { prompt: text, completion: label },
  }),
}
