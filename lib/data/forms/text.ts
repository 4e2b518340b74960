/** Plain text, which is trained on as a whole. */
import type { TextRow } from '../rows.js'
import type { Form } from './form.js'

/** Characters at the start of a document that serve as the prompt for the rest. */
const BEGINNING = 120

export const text: Form<TextRow> = {
  name: 'text',
  precedence: 80,
  expected: '{"text": …}',
  columns: { text: 'the text' },
  read({ text }, { place, isFile, wrong }) {
    if (typeof text !== 'string') throw wrong('text')
    // Files may be longer than an example, since nobody chose their length with examples in mind.
    return { format: 'text', text, ...place, ...(isFile ? { document: true } : {}) }
  },
  rows: {
    whole: true,
    plain: ({ text }) => ({ text }),
    question({ text }) {
      const beginning = text.slice(0, Math.min(BEGINNING, text.length >> 1))
      const prompt = beginning.slice(0, Math.max(0, beginning.lastIndexOf(' ')))
      const expected = text.slice(prompt.length, prompt.length + 2 * BEGINNING)
      return { prompt, expected, system: null }
    },
    opening: ({ text }) => text.trim().split('\n', 1)[0] as string,
    texts: ({ text }) => [text],
    empty: () => 'the text is empty',
  },
}
