/** Findings over all rows that their user should see: classes, traces of wrong conversions, and misspelled keys. */
import { rulesOf, textsOf } from './forms/index.js'
import { type LabelCount, LabelCounts, mergeTwins } from './labels.js'
import type { DatasetRow } from './rows.js'

/** A character, or the characters that a wrong conversion made of one, and its row. */
export interface FoundCharacter {
  character: string
  path: string
  line: number
  unit?: 'row'
}

export interface RowFindings {
  /**
   * Rows by class, the most frequent one first: labels of a classifier, or completions that are one of a few short texts.
   * Empty if there are none.
   */
  classes: LabelCount[]
  /** Rows whose text has control or replacement characters, which wrong conversions leave, and the first of them. */
  damagedText: { rows: number; first?: FoundCharacter }
  /** Keys of rows that are not used, each with the one that was probably meant and the first row that has it. */
  misspelled: MisspelledKey[]
}

/** A key that is not used. */
export interface MisspelledKey {
  key: string
  meant: string
  path: string
  line: number
  unit?: 'row'
}

/**
 * C1 control characters, which texts do not have; the character that replaces bytes that are none; and letters and
 * quotation marks in UTF-8 that were read as windows-1252.
 */
const DAMAGED = /[\u0080-\u009f\ufffd]|Ã[\u00a0-\u00bfŸœ„–‰]|â€[™œ˜“”¦]|Â[\u00a0-\u00bf]/u

/** Looks at the rows of a dataset, one after the other. */
export class RowSurvey {
  readonly #labels = new LabelCounts(Number.POSITIVE_INFINITY)
  readonly #completions = new LabelCounts()
  readonly #stripLabels: boolean
  readonly #misspelled: MisspelledKey[] = []
  readonly #damaged: RowFindings['damagedText'] = { rows: 0 }

  /** @param stripLabels true if labels that differ only by white space or case are one class */
  constructor(stripLabels = false) {
    this.#stripLabels = stripLabels
  }

  add(row: DatasetRow): void {
    const { path, line, unit, misspelled } = row
    const place = { path, line, ...(unit ? { unit } : {}) }
    if (misspelled !== undefined) this.#misspelled.push({ ...misspelled, ...place })
    const rules = rulesOf(row)
    if ('label' in rules && rules.label !== undefined)
      (rules.classified ? this.#labels : this.#completions).add(rules.label.of(row))
    const [character] = DAMAGED.exec(textsOf(row).find((text) => DAMAGED.test(text)) ?? '') ?? []
    if (character === undefined) return
    this.#damaged.rows++
    this.#damaged.first ??= { character, ...place }
  }

  get damagedText(): RowFindings['damagedText'] {
    return this.#damaged
  }

  get findings(): RowFindings {
    const { classes } = this.#labels
    const found = classes.length > 0 ? classes : this.#completions.areLabels ? this.#completions.classes : []
    return {
      classes: this.#stripLabels ? mergeTwins(found) : found,
      damagedText: this.#damaged,
      misspelled: this.#misspelled,
    }
  }
}
