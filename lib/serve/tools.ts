/** Tools of a request: their shapes, the form in which a model writes its calls, and calls that it has to write. */
import * as z from 'zod'
import { DataError } from '../core/errors.js'
import type { GrammarPart } from '../grammar/grammar.js'
import type { NativeGrammar, TokenTable } from '../native/addon.js'
import { formatOf, isRecorded, renderPrompt } from '../train/rows/prompting.js'
import { CALL_FORMS, type CallForm, type Parameters } from './call-forms.js'
import { type CallFrame, frameOf } from './call-grammar.js'
import { invalid, unsupported } from './errors.js'
import { expectGrammar, grammarOf } from './grammars.js'
import { Literals, Unreadable } from './literals.js'
import type { Answering } from './models.js'

const MOST_TOOLS = 128
const NAME = /^[\w-]{1,64}$/

const functionSchema = z.looseObject({
  name: z.string().regex(NAME, 'expected at most 64 letters, digits, _ and -'),
  description: z.string().nullish(),
  parameters: z.looseObject({}).nullish(),
  strict: z.boolean().nullish(),
})
export const toolShape = {
  tools: z
    .array(
      z.looseObject({
        type: z.literal('function', { error: 'expected function; the server runs no tools of its own' }),
        function: functionSchema,
      }),
    )
    .max(MOST_TOOLS)
    .nullish(),
  tool_choice: z
    .union(
      [
        z.enum(['none', 'auto', 'required']),
        z.looseObject({ type: z.literal('function'), function: z.looseObject({ name: z.string() }) }),
      ],
      { error: 'expected none, auto, required, or {"type": "function", "function": {"name": …}}' },
    )
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
}

/** The calls of an assistant's message. */
export const calledShape = z.array(
  z.looseObject({
    id: z.string().min(1),
    type: z.literal('function', { error: 'expected function' }),
    function: z.looseObject({ name: z.string().min(1), arguments: z.string() }),
  }),
)

/** The tools that a model may call. */
export interface Tools {
  /** As templates show them. */
  schemas: readonly object[]
  parameters: Parameters
  /** False to end an answer after its first call. */
  parallel: boolean
  /** The tools of which an answer has to call one; undefined where the model decides. */
  forced: readonly string[] | undefined
  /** True if the request names the tool. OpenAI's API then ends with `stop`. */
  named: boolean
}

type ToolRequest = z.infer<z.ZodObject<typeof toolShape>>

/** Undefined without tools, and where none may be called. */
export function toolsOf({ tools, tool_choice: choice, parallel_tool_calls }: ToolRequest): Tools | undefined {
  if (!tools || tools.length === 0) {
    if (choice && choice !== 'none' && choice !== 'auto')
      throw invalid(
        'tool_choice',
        "Invalid value for 'tool_choice': a tool has to be called, and 'tools' has none.",
      )
    return undefined
  }
  if (choice === 'none') return undefined
  const parameters = new Map<string, unknown>()
  const schemas = tools.map(({ function: { name, description, parameters: given, ...rest } }, index) => {
    if (parameters.has(name))
      throw invalid(`tools[${index}].function.name`, `There are two tools with the name '${name}'.`)
    parameters.set(name, given ?? {})
    // Templates do not show `strict`, which only the API reads.
    const { strict: _, ...more } = rest
    return {
      type: 'function',
      function: {
        name,
        ...(description ? { description } : {}),
        ...(given ? { parameters: given } : {}),
        ...more,
      },
    }
  })
  const named = typeof choice === 'object' ? choice?.function.name : undefined
  if (named !== undefined && !parameters.has(named))
    throw invalid('tool_choice', `Invalid value for 'tool_choice': no tool has the name '${named}'.`)
  return {
    ...{ schemas, parameters, parallel: parallel_tool_calls ?? true, named: named !== undefined },
    forced: named !== undefined ? [named] : choice === 'required' ? [...parameters.keys()] : undefined,
  }
}

const QUESTION = { role: 'user', content: 'Which word is it?' }
const GIVEN = '{"word":"one","n":2,"all":true}'
const CALL = {
  ...{ role: 'assistant', content: '' },
  // The templates of Mistral ask for an id of nine characters.
  tool_calls: [{ id: 'call00001', type: 'function', function: { name: 'look_up', arguments: GIVEN } }],
}
const PARAMETERS = {
  type: 'object',
  properties: { word: { type: 'string' }, n: { type: 'integer' }, all: { type: 'boolean' } },
  required: ['word'],
}
const TOOL = {
  type: 'function',
  function: { name: 'look_up', description: 'Looks a word up', parameters: PARAMETERS },
}

/** How the template of a model writes calls. */
export interface CallStyle {
  form: CallForm
  /** Undefined where calls are written in a form that no grammar knows. */
  frame: CallFrame | undefined
}

const styles = new WeakMap<object, Map<string, Promise<CallStyle>>>()

/**
 * The style in which the template of a model writes calls.
 * @throws {ApiError} for a template without tools, or with a form that is not known
 */
export async function callStyleOf({
  base,
  adapters,
}: Pick<Answering, 'base' | 'adapters'>): Promise<CallStyle> {
  const tokenizer = await base.tokenizer()
  const format = formatOf(base, adapters)
  const known = styles.get(tokenizer) ?? new Map<string, Promise<CallStyle>>()
  styles.set(tokenizer, known)
  const key = JSON.stringify(isRecorded(format) ? [format.template, format.trainingTemplate] : format)
  let style = known.get(key)
  if (style === undefined) {
    style = renderPrompt(tokenizer.about.source, format, [QUESTION, CALL], { tools: [TOOL] }).then(styleIn)
    known.set(key, style)
    style.catch(() => known.delete(key))
  }
  try {
    return await style
  } catch (error) {
    if (error instanceof DataError) throw unknownForm()
    throw error
  }
}

/** The style of the call of the sample in its text. */
function styleIn(text: string): CallStyle {
  const tail = text.slice(text.lastIndexOf(QUESTION.content))
  for (const form of CALL_FORMS)
    for (const at of placesOf(tail, form)) {
      const written = sampleIn(form, tail, at)
      if (written !== undefined) return { form, frame: frameOf(written, 'look_up', 'word') }
    }
  throw unknownForm()
}

function placesOf(text: string, { marks }: CallForm): number[] {
  return marks.flatMap((mark) => {
    const places: number[] = []
    for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + 1)) places.push(at)
    return places
  })
}

/** The text of the sample's call; undefined where there is something else. */
function sampleIn(form: CallForm, text: string, at: number): string | undefined {
  const literals = new Literals(text, at, true)
  try {
    const calls = form.read(literals, new Map([['look_up', PARAMETERS]]))
    const isSample = calls.length === 1 && calls[0]?.name === 'look_up' && calls[0].arguments === GIVEN
    return isSample ? text.slice(at, literals.at) : undefined
  } catch (error) {
    if (error instanceof Unreadable) return undefined
    throw error
  }
}

/**
 * The grammar of an answer with tools: a call of one that the request asks for, or, beside a format, a call of any tool or
 * what follows the format; undefined where the model decides.
 * @throws {ApiError} for a model whose calls no grammar knows, and for schemas that cannot be followed
 */
export async function toolGrammar(
  { base }: Answering,
  { parameters, forced }: Tools,
  { frame }: CallStyle,
  format: GrammarPart | undefined,
): Promise<NativeGrammar | undefined> {
  if (forced === undefined && format === undefined) return undefined
  if (frame === undefined) throw forced === undefined ? noFormat() : noForce()
  const special = await specialTexts(base)
  const calls = (forced ?? [...parameters.keys()]).map((name): GrammarPart => {
    const { open, between, close } = frame
    const parts: GrammarPart[] = [
      ...withTokens(open, special),
      { kind: 'text', text: name },
      ...withTokens(between, special),
      ...frame.argumentsOf(name, parameters.get(name)),
      ...withTokens(close, special),
    ]
    return { kind: 'all', parts }
  })
  if (format !== undefined) await expectGrammar(base, format, 'response_format')
  const options = forced === undefined && format !== undefined ? [format, ...calls] : calls
  return grammarOf(
    base,
    options.length === 1 ? (options[0] as GrammarPart) : { kind: 'one', options },
    'tools',
  )
}

const specials = new WeakMap<object, Promise<[text: string, id: number][]>>()

/** The special tokens of a model by their texts. */
async function specialTexts(base: Answering['base']): Promise<[text: string, id: number][]> {
  const tokenizer = await base.tokenizer()
  const known = specials.get(tokenizer) ?? tokenizer.table().then(specialsIn)
  specials.set(tokenizer, known)
  return known
}

function specialsIn({ bytes, ends, special }: TokenTable): [text: string, id: number][] {
  const found: [string, number][] = []
  for (let id = 0; id < ends.length; id++) {
    if (!special[id]) continue
    const text = Buffer.from(bytes.subarray(id === 0 ? 0 : ends[id - 1], ends[id])).toString()
    if (text !== '') found.push([text, id])
  }
  return found
}

/** A text whose special tokens are tokens. */
function withTokens(text: string, special: readonly [text: string, id: number][]): GrammarPart[] {
  if (text === '') return []
  for (const [token, id] of special) {
    const at = text.indexOf(token)
    if (at < 0) continue
    const rest = text.slice(at + token.length)
    return [...withTokens(text.slice(0, at), special), { kind: 'token', id }, ...withTokens(rest, special)]
  }
  return [{ kind: 'text', text }]
}

const noForce = () =>
  invalid(
    'tool_choice',
    "Invalid value for 'tool_choice': this model writes calls in a form that cannot be required; use auto.",
    'unsupported_value',
  )

const noFormat = () =>
  unsupported(
    'response_format',
    'this model writes calls in a form that no grammar knows, so an answer that may call tools has no format of its own',
  )

const unknownForm = () =>
  invalid(
    'tools',
    'The chat template of this model knows no tools, or writes calls in a form that lowrank cannot read; ask a model that was trained with tools, or describe them in a message.',
    'unsupported_parameter',
  )
