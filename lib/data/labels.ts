/**
 * The classes of data: their counts, and those that are probably one class written in several ways. Answers that are
 * one of a few short texts are classes too, though no head scores them.
 */

/** Most different labels that are counted; with more, the texts are no labels. */
const MOST_LABELS = 10_000
/** Longest text that is a label. */
const LONGEST_LABEL = 100
/** Answers are labels if they have at least this many rows each, on average. */
const ROWS_OF_A_LABEL = 2

/** A class and its number of rows. */
export interface LabelCount {
  label: string
  rows: number
}

/** The same for labels that differ only by white space, case, or the Unicode form of a character. */
export function labelKey(label: string): string {
  return stripLabel(label).normalize('NFC').toLowerCase()
}

/** The label without white space around it, and with one space for all white space inside it. */
export function stripLabel(label: string): string {
  return label.trim().replace(/\s+/g, ' ')
}

/** Counts the rows of each label. */
export class LabelCounts {
  readonly #rows = new Map<string, number>()
  readonly #longest: number
  #total = 0
  #countable = true

  /** @param longest characters of a text that may be a label */
  constructor(longest = LONGEST_LABEL) {
    this.#longest = longest
  }

  add(label: string): void {
    if (!this.#countable) return
    this.#total++
    this.#rows.set(label, (this.#rows.get(label) ?? 0) + 1)
    if (this.#rows.size > MOST_LABELS || label.length > this.#longest) {
      this.#countable = false
      this.#rows.clear()
    }
  }

  /** The labels, the most frequent one first; empty if a text is too long for a label, or there are too many. */
  get classes(): LabelCount[] {
    return Array.from(this.#rows, ([label, rows]) => ({ label, rows })).sort(
      (a, b) => b.rows - a.rows || (a.label < b.label ? -1 : 1),
    )
  }

  /** True if the texts are probably labels: short, on one line, and each in several rows. */
  get areLabels(): boolean {
    const labels = [...this.#rows.keys()]
    const different = new Set(labels.map(labelKey)).size
    if (different < 2 || this.#total < ROWS_OF_A_LABEL * different) return false
    return labels.every((label) => label.trim() !== '' && !label.trim().includes('\n'))
  }
}

/** Groups of labels that differ only by white space or case, the most frequent one of each first. */
export function nearTwins(classes: readonly LabelCount[]): LabelCount[][] {
  const groups = new Map<string, LabelCount[]>()
  for (const one of classes) {
    const key = labelKey(one.label)
    groups.set(key, [...(groups.get(key) ?? []), one])
  }
  return [...groups.values()]
    .filter(({ length }) => length > 1)
    .map((group) => group.toSorted((a, b) => b.rows - a.rows))
}

/** One class for each group of labels that differ only by white space or case, under its most frequent spelling. */
export function mergeTwins(classes: readonly LabelCount[]): LabelCount[] {
  const merged = new Map<string, { label: string; rows: number; most: number }>()
  for (const { label, rows } of classes) {
    const key = labelKey(label)
    const known = merged.get(key)
    const ahead = known === undefined || rows > known.most
    merged.set(key, {
      label: ahead ? stripLabel(label) : known.label,
      rows: rows + (known?.rows ?? 0),
      most: Math.max(rows, known?.most ?? 0),
    })
  }
  return Array.from(merged.values(), ({ label, rows }) => ({ label, rows })).sort((a, b) => b.rows - a.rows)
}

/** The spelling of each label that came first, for texts that are read one after the other. */
export class LabelSpelling {
  readonly #first: Map<string, string>

  /** @param known spellings that count as the first */
  constructor(known: readonly string[] = []) {
    this.#first = new Map(known.map((label) => [labelKey(label), label]))
  }

  /** A text that is too long for a label loses the white space around it. */
  of(text: string): string {
    const label = stripLabel(text)
    if (label.length > LONGEST_LABEL || text.trim().includes('\n')) return text.trim()
    const key = labelKey(label)
    const known = this.#first.get(key)
    if (known !== undefined) return known
    if (this.#first.size < MOST_LABELS) this.#first.set(key, label)
    return label
  }
}
