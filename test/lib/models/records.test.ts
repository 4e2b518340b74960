/** What the records of all families have to hold together. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ggufName, huggingFaceName, partsInGguf } from '../../../lib/formats/gguf-names.js'
import { FAMILIES, ggufFormOf, graphOf, WHOLES } from '../../../lib/models/index.js'
import { SHAPES } from '../../../lib/models/shapes.js'
import { ChatTemplate } from '../../../lib/tokenizer/chat-template.js'
import { trainingTemplateFor } from '../../../lib/tokenizer/training-templates.js'

const types = FAMILIES.flatMap((family) => Object.entries(family.types))
const shapes = [...SHAPES]

function expectDistinct(values: readonly unknown[]) {
  expect(values).toHaveLength(new Set(values).size)
}

it('no two families have the same model_type, GGUF architecture, or well-known model', () => {
  expectDistinct(types.map(([name]) => name))
  expectDistinct(FAMILIES.flatMap(({ gguf }) => gguf?.architecture ?? []))
  expectDistinct(types.flatMap(([, { shapes }]) => Object.keys(shapes)))
})

it('multimodal models are of one family each, and have text models of known types', () => {
  const wholes = FAMILIES.flatMap((family) => Object.keys(family.wholes ?? {}))
  expectDistinct(wholes)
  expect([...WHOLES.keys()]).toEqual(wholes)
  expect(WHOLES.get('mistral3')?.classes).toEqual({
    ministral3: 'Ministral3ForCausalLM',
    mistral: 'MistralForCausalLM',
  })
})

it('each model_type has a well-known model', () => {
  expect(types.filter(([, { shapes }]) => Object.keys(shapes).length === 0)).toEqual([])
})

it.each(shapes)(
  'every weight of %s has a name of its own in GGUF files, which leads back to it',
  (_, config) => {
    const graph = graphOf(config)
    const { names } = ggufFormOf(graph.family)
    const parts = graph.weights.flatMap(({ name, rows }) =>
      partsInGguf(name, rows, names).map((part) => part.name),
    )
    const stored = parts.map((name) => ggufName(name, names) ?? name)
    expectDistinct(stored)
    expect(stored.map((name) => huggingFaceName(name, graph.layers, names))).toEqual(parts)
  },
)

interface Own {
  own: string
  eos_token?: string
}

describe('templates for training', () => {
  const parity = (name: string) => JSON.parse(readFileSync(`test/parity/${name}`, 'utf8'))
  const own = [
    ...Object.entries<Own>(parity('training_templates.json').families),
    ...Object.entries<Own>(parity('adapted_chats.json').families),
  ]

  // Families are tried in the order of their files, which must not matter.
  it.each(own)('fit the template of %s in one family', (_, { own, eos_token = '' }) => {
    const template = new ChatTemplate(own, { eos_token })
    const fitting = FAMILIES.filter(({ templates = [] }) =>
      trainingTemplateFor(template, { eos_token }, templates),
    )
    expect(fitting).toHaveLength(1)
  })
})
