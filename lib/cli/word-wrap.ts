/**
 * Wraps streamed text between words. A word is held back until it is complete, or longer than the rest of its
 * line. Code between fences is not wrapped.
 */
import stringWidth from 'string-width'

/** Characters of scripts without spaces, where a line may end anywhere except before closing punctuation. */
const UNSPACED =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}][\p{M}、。，．！？：；ー）」』】》〉…～]*/u
const FENCE = /^\s*(`{3,}|~{3,})/
const LIST_ITEM = /^([-*+•]|\d{1,3}[.)])$/
const TAB = 8

export class WordWrap {
  readonly #write: (text: string) => void
  readonly #columns: () => number
  /** Column after the written text. */
  #column = 0
  /** Indentation of wrapped lines. */
  #indent = 0
  #isListItem = false
  /** Input not written yet: white space, then part of a word. */
  #gap = ''
  #word = ''
  /** True if the last word was written before its end. */
  #isOpen = false
  /** The line so far, as received. */
  #line = ''
  /** Opening fence of the current code block. */
  #fence: string | undefined

  /** @param columns called for every word, since a terminal may be resized */
  constructor(write: (text: string) => void, columns: () => number) {
    this.#write = write
    this.#columns = columns
  }

  piece(text: string): void {
    for (const part of text.match(/\n|[^\S\n]+|\S+/g) ?? []) {
      if (part === '\n') this.#endLine()
      else {
        this.#line += part
        if (this.#fence !== undefined) this.#write(part)
        else if (part.trim() === '') this.#space(part)
        else this.#grow(part)
      }
    }
  }

  /** Writes the pending text. */
  end(): void {
    this.#putWord()
  }

  #endLine(): void {
    this.#putWord()
    const mark = FENCE.exec(this.#line)?.[1]
    const closes = this.#fence !== undefined && mark?.startsWith(this.#fence) && this.#line.trim() === mark
    if (closes) this.#fence = undefined
    else this.#fence ??= mark
    this.#write('\n')
    this.#line = this.#gap = ''
    this.#column = this.#indent = 0
    this.#isListItem = this.#isOpen = false
  }

  #space(space: string): void {
    this.#putWord()
    this.#isOpen = false
    this.#gap += space
  }

  #grow(part: string): void {
    this.#isOpen &&= !UNSPACED.test(part)
    if (this.#isOpen) {
      this.#write(part)
      this.#column = Math.min(this.#column + stringWidth(part), this.#columns())
      return
    }
    this.#word += part
    // The last character may still be followed by punctuation.
    for (let unit = UNSPACED.exec(this.#word); unit; unit = UNSPACED.exec(this.#word)) {
      const end = unit.index === 0 ? unit[0].length : unit.index
      if (end === this.#word.length) return
      const rest = this.#word.slice(end)
      this.#word = this.#word.slice(0, end)
      this.#putWord()
      this.#word = rest
    }
    if (this.#column + widthFrom(this.#column, this.#gap) + stringWidth(this.#word) > this.#columns()) {
      this.#isOpen = !UNSPACED.test(this.#word)
      this.#putWord()
    }
  }

  #putWord(): void {
    if (this.#word === '') return
    const begins = this.#column === 0
    const gap = begins || this.#column > this.#indent ? this.#gap : ''
    const width = stringWidth(this.#word)
    const columns = this.#columns()
    const end = this.#column + widthFrom(this.#column, gap) + width
    if (begins || end <= columns) {
      this.#write(gap + this.#word)
      this.#column = end
    } else {
      this.#write(`\n${' '.repeat(this.#indent)}${this.#word}`)
      this.#column = this.#indent + width
    }
    if (begins || this.#isListItem) this.#hang(this.#column - width, columns)
    this.#isListItem = begins && LIST_ITEM.test(this.#word)
    // The terminal breaks a word that is longer than a line; nothing more is written on that line.
    this.#column = Math.min(this.#column, columns)
    this.#gap = this.#word = ''
  }

  #hang(indent: number, columns: number): void {
    this.#indent = indent <= columns / 2 ? indent : 0
  }
}

/** Width of white space that starts at a column. */
function widthFrom(column: number, space: string): number {
  let end = column
  for (const character of space) end = character === '\t' ? end - (end % TAB) + TAB : end + 1
  return end - column
}
