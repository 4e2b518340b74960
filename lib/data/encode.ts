/**
 * Converts dataset rows to token ids and labels. A label is the id of its own token if the model should learn
 * to write it, otherwise -100. Labels are shifted one position to the left later, when micro-batches are
 * packed.
 */
import { ConfigError } from '../core/errors.js'
import type { PromptFormat } from '../formats/prompt-format.js'
import { type TokenizerSource, withTemplate } from '../tokenizer/source.js'
import { Tokenizer } from '../tokenizer/tokenizer.js'
import { ChatEncoder, noHistory } from './chat-encoder.js'
import { ChatRenderers } from './chat-renderers.js'
import { rowError } from './dataset/place.js'
import {
  type DropReason,
  type EncodedRow,
  type EncodeRowOptions,
  IGNORE,
  type RowPrompting,
  TRAIN_ON,
} from './encoded-row.js'
import { FormatSeen } from './format-seen.js'
import type { AnswersRules, Plain, RowRules } from './forms/form.js'
import { isWhole, rulesOf } from './forms/index.js'
import { labelKey } from './labels.js'
import type { DatasetRow, MessagesRow } from './rows.js'
import { SPECIAL_TOKENS_IN_CONTENT, SpecialText } from './special-text.js'
import { TextEncoder, type Tokens } from './text-encoder.js'
import { ThoughtRules } from './thought-rules.js'

const AS_CHATS: RowPrompting = { prompts: true, instructions: true }

type Example = EncodedRow | DropReason

/** Encodes rows of every form: as chats, as texts, or as answers that are joined to one example. */
export class RowEncoder {
  readonly tokenizer: Tokenizer
  readonly #options: Required<Pick<EncodeRowOptions, 'maxSeqLength' | 'trainOn' | 'emptyRows' | 'prompting'>>
  /** Class ids by name. */
  readonly #labels: ReadonlyMap<string, number>
  /** The key that all spellings of a label share. */
  readonly #keyOf: (label: string) => string
  readonly #names: readonly string[]
  readonly #thoughts: ThoughtRules
  readonly #renderers: ChatRenderers
  readonly #texts: TextEncoder
  readonly #chats: ChatEncoder
  readonly #seen = new FormatSeen()
  #format: PromptFormat | null = null

  /** @throws {ConfigError} for an option out of range */
  constructor(source: TokenizerSource | Tokenizer, options: EncodeRowOptions) {
    const {
      maxSeqLength,
      trainOn = 'completions',
      emptyRows = 'error',
      unended = 'error',
      specialTokensInContent = 'keep',
      now = new Date(),
      prompting = AS_CHATS,
      asPrompts = false,
      labels = null,
      stripLabels = false,
      templateLimits,
    } = options
    if (!Number.isInteger(maxSeqLength) || maxSeqLength < 2) {
      throw new ConfigError(`max_seq_length must be an integer of at least 2, not ${maxSeqLength}`, {
        maxSeqLength,
      })
    }
    if (!TRAIN_ON.includes(trainOn)) {
      throw new ConfigError(`train_on must be one of ${TRAIN_ON.join(', ')}, not ${trainOn}`, { trainOn })
    }
    if (!SPECIAL_TOKENS_IN_CONTENT.includes(specialTokensInContent)) {
      throw new ConfigError(
        `special_tokens_in_content must be one of ${SPECIAL_TOKENS_IN_CONTENT.join(', ')}, not ${specialTokensInContent}`,
        { specialTokensInContent },
      )
    }
    this.tokenizer = source instanceof Tokenizer ? source : new Tokenizer(source)
    const own = withTemplate(this.tokenizer.source, prompting.template)
    const special = new SpecialText(this.tokenizer, specialTokensInContent)
    const thoughts = new ThoughtRules(options)
    const renderers = new ChatRenderers(this.tokenizer, own, templateLimits, thoughts)
    const texts = new TextEncoder(this.tokenizer, special, { trainOn, unended })
    this.#thoughts = thoughts
    this.#renderers = renderers
    this.#texts = texts
    this.#chats = new ChatEncoder(
      { renderers, texts, special, thoughts, seen: this.#seen },
      { trainOn, emptyRows, unended, now, asPrompts },
    )
    this.#keyOf = stripLabels ? labelKey : (label) => label
    this.#labels = new Map(labels?.map((label, id) => [this.#keyOf(label), id]))
    this.#names = labels ?? []
    this.#options = { maxSeqLength, trainOn, emptyRows, prompting }
  }

  /** True if a template used so far reads the date. */
  get usesClock(): boolean {
    return this.#renderers.usesClock
  }

  /**
   * Prompt format of the rows so far; null before the first row. The same object is returned until the format
   * changes.
   */
  get format(): PromptFormat | null {
    const { form, system, prefix, suffix, chats, unreasoned, changed } = this.#seen
    if (form === undefined || !changed) return this.#format
    this.#seen.changed = false
    const chat = form === 'chat'
    this.#format = {
      form,
      template: chat ? this.#renderers.template : null,
      ...(chat && this.#renderers.family !== undefined ? { trainingTemplate: this.#renderers.family } : {}),
      ...(chat && unreasoned ? { thinking: false as const } : {}),
      system: chat ? system : null,
      prefix,
      suffix,
      stop: this.#renderers.stops(chats),
    }
    return this.#format
  }

  /** True if the chat template renders the row. */
  rendersChat(row: DatasetRow): boolean {
    return this.#chatOf(row) !== undefined
  }

  /** The last answer of a chat as a model writes it; undefined if the template does not tell where it is. */
  lastAnswer(row: MessagesRow): string | undefined {
    return this.#chats.lastAnswer(row)
  }

  /**
   * @returns ids and labels, or why the row was dropped
   * @throws {DataError} when the row is invalid, naming file and line
   */
  encode(row: DatasetRow): Example {
    const rules = rulesOf(row)
    if ('answers' in rules) return this.#joined(row, rules)
    return rules.classified
      ? this.#labeled(row, rules.classified(row), rules)
      : this.#cut(row, this.#tokens(row))
  }

  /**
   * Like `encode`, but a document that is too long is split into several examples, and with `reasoningHistory` drop, a
   * chat into one for each answer. Any other row gives one.
   */
  encodeAll(row: DatasetRow): Example[] {
    if (this.#thoughts.asUsed) return this.#perAnswer(row)
    if (!('document' in row && row.document)) return [this.encode(row)]
    const { maxSeqLength } = this.#options
    const tokens = this.#tokens(row)
    if (tokens.ids.length <= maxSeqLength) return [this.#cut(row, tokens)]
    const pieces: Example[] = []
    // A piece of a single token has nothing to predict.
    for (let start = 0; start + 1 < tokens.ids.length; start += maxSeqLength) {
      const ids = tokens.ids.slice(start, start + maxSeqLength)
      const inside = tokens.inside.subarray(start, start + maxSeqLength)
      const { specialTokens = [] } = start === 0 ? tokens : {}
      pieces.push(this.#cut(row, { ids, inside, specialTokens }))
    }
    return pieces
  }

  /** An example for each answer, which ends the chat before it. */
  #perAnswer(row: DatasetRow): Example[] {
    if (this.#options.trainOn === 'all')
      throw noHistory('train_on is all, which has no answers to make examples of')
    const rules = rulesOf(row)
    const chat = 'hasHistory' in rules ? this.#chatOf(row) : undefined
    if (chat === undefined) throw noHistory(`rows of the format ${row.format} have no turns before an answer`)
    const { chats, empty } = this.#chats.perAnswer(chat)
    if (chats.length === 0) return [this.#cut(chat, this.#tokens(chat))]
    const examples = chats.map((part, index) =>
      // As in one example of the whole chat, later answers may be cut off.
      this.#cut(part, this.#tokens(part), index === 0 ? this.#options.emptyRows : 'drop'),
    )
    return whole(examples, empty)
  }

  /** The example of several answers. It is dropped if one of them is. */
  #joined(row: DatasetRow, rules: AnswersRules<DatasetRow>): Example {
    const examples = rules.answers(row).map((answer) => this.encode(answer))
    const dropped = examples.find((example) => typeof example === 'string')
    return dropped ?? rules.joined(row, examples as EncodedRow[])
  }

  /** A text with its class, predicted at the last token; no end token is added. */
  #labeled(row: DatasetRow, text: string, { label }: RowRules<DatasetRow>): Example {
    const name = label?.of(row) as string
    const target = this.#labels.get(this.#keyOf(name))
    if (target === undefined)
      throw rowError(
        row,
        `the label ${JSON.stringify(name)} is none of those that the head has: ${this.#names.join(', ')}`,
      )
    const { ids, specialTokens } = this.#texts.unended(row, text)
    const { maxSeqLength, emptyRows } = this.#options
    if (ids.length === 0 || text.trim() === '') {
      if (emptyRows === 'drop') return 'nothing_to_learn'
      throw rowError(row, 'the text is empty; remove the row, or drop such rows with empty_rows: drop')
    }
    const inputIds = Int32Array.from(ids.slice(0, maxSeqLength))
    return {
      inputIds,
      labels: new Int32Array(inputIds.length).fill(IGNORE),
      target,
      supervised: 1,
      truncated: ids.length > maxSeqLength,
      fullLength: ids.length,
      ended: true,
      ...{ specialTokens, emptyTurns: 0, lostReasoning: 0 },
      ...placeOf(row),
    }
  }

  #cut(
    row: DatasetRow,
    { ids, inside, specialTokens = [], emptyTurns = 0, lostReasoning = 0, open = false }: Tokens,
    emptyRows = this.#options.emptyRows,
  ): Example {
    const { maxSeqLength } = this.#options
    if (open && ids.length >= maxSeqLength) return this.#unanswerable(row, ids.length, emptyRows)
    const truncated = ids.length > maxSeqLength
    const length = Math.min(ids.length, maxSeqLength)
    const inputIds = new Int32Array(length)
    const labels = new Int32Array(length)
    let supervised = 0
    for (let i = 0; i < length; i++) {
      inputIds[i] = ids[i] as number
      labels[i] = inside[i] ? (ids[i] as number) : IGNORE
      // The first token cannot be predicted, since nothing precedes it.
      if (inside[i] && i > 0) supervised++
    }
    if (supervised > 0 || open) {
      const ended =
        open || isWhole(row.format) || !truncated || labels.some((label, i) => i > 0 && this.#isEnd(label))
      const found = { specialTokens, emptyTurns, lostReasoning }
      return {
        ...{ inputIds, labels, supervised, truncated, fullLength: ids.length, ended },
        ...found,
        ...placeOf(row),
      }
    }
    return this.#unlearned(row, inside.indexOf(1, 1), emptyRows)
  }

  /** @param start index of the first token that would be trained on, -1 if there is none */
  #unlearned(row: DatasetRow, start: number, emptyRows: EncodeRowOptions['emptyRows']): DropReason {
    const { maxSeqLength, trainOn } = this.#options
    if (emptyRows === 'drop') return start > 0 ? 'truncated_away' : 'nothing_to_learn'
    const rules = rulesOf(row) as RowRules<DatasetRow>
    throw rowError(
      row,
      start > 0
        ? `there is nothing to train on: that part begins at token ${start + 1}, and max_seq_length truncates the row to ${maxSeqLength}; raise max_seq_length, or drop such rows with empty_rows: drop`
        : `there is nothing to train on (${rules.empty(row, trainOn)}); remove the row, or drop such rows with empty_rows: drop`,
    )
  }

  /** A prompt that leaves no room for an answer. */
  #unanswerable(row: DatasetRow, length: number, emptyRows: EncodeRowOptions['emptyRows']): DropReason {
    if (emptyRows === 'drop') return 'truncated_away'
    throw rowError(
      row,
      `the prompt has ${length} tokens, which leaves no room for an answer: max_seq_length is ${this.#options.maxSeqLength}; raise max_seq_length, or drop such rows with empty_rows: drop`,
    )
  }

  /** True if a token ends an answer: an EOS, or an added token, which ends a turn. */
  #isEnd(label: number): boolean {
    return (
      label !== IGNORE &&
      (this.tokenizer.eosIds.includes(label) || this.tokenizer.addedToken(label) !== undefined)
    )
  }

  /** Tokenizes the whole row, and checks that it begins with at most one BOS. */
  #tokens(row: DatasetRow): Tokens {
    const chat = this.#chatOf(row)
    const tokens = chat === undefined ? this.#plain(row) : this.#chats.encode(chat)
    const { bosId, eosId } = this.tokenizer
    const [first, second] = tokens.ids
    if (bosId !== undefined && bosId !== eosId && first === bosId && second === bosId) {
      const { bos_token: bos } = this.tokenizer.specialTokens
      const source =
        chat === undefined
          ? 'the text begins with it more than once'
          : 'the chat template writes one, and another is in its text or in the first message'
      throw rowError(
        row,
        `the begin-of-sequence token ${bos} occurs twice at the beginning: ${source}; remove one`,
      )
    }
    return tokens
  }

  /** The row as a chat, if the chat template renders it. */
  #chatOf(row: DatasetRow): MessagesRow | undefined {
    const { prompts, instructions, system = null } = this.#options.prompting
    const has = this.#renderers.template !== null
    const rules = rulesOf(row)
    if ('answers' in rules) return undefined
    return rules.chat?.(row, { prompts: has && prompts, instructions: has && instructions, system })
  }

  #plain(row: DatasetRow): Tokens {
    const rules = rulesOf(row) as RowRules<DatasetRow>
    const plain = rules.plain?.(row) as Plain
    const isRendered = 'text' in plain && this.#renderers.wrote(plain.text)
    this.#seen.add(isRendered ? { system: null } : (rules.around?.(row) ?? { prefix: '', suffix: '' }))
    return this.#texts.encode(row, plain)
  }
}

function placeOf({ path, line, unit, group, item }: DatasetRow) {
  return {
    ...{ path, line },
    ...(unit ? { unit } : {}),
    ...(group === undefined ? {} : { group }),
    ...(item === undefined ? {} : { item }),
  }
}

/**
 * The examples of one row, of which the first has the findings of all. If later ones are cut off wholly, the row counts
 * as truncated.
 */
function whole(examples: readonly Example[], emptyTurns: number): Example[] {
  const kept = examples.filter((example) => typeof example !== 'string')
  const [first, last] = [kept[0], kept.at(-1)]
  if (first === undefined || last === undefined) return examples.slice(0, 1)
  const truncated = last.truncated || kept.length < examples.length
  return kept.map((example) => ({
    ...example,
    truncated: example === last && truncated,
    emptyTurns: example === first ? emptyTurns : 0,
    specialTokens: example === first ? last.specialTokens : [],
  }))
}
