/** Formats texts by `%` and by `str.format`, without widths and precisions. */
import { Tuple } from '../python-values.js'
import { type Arguments, literalOf, numberOf, textOf, type Value, wrongKind } from './values.js'

/** `text % given`. */
export function formatPercent(text: string, given: Value): string {
  const values = given instanceof Tuple ? [...given] : [given]
  const names = given instanceof Map
  let next = 0
  const filled = text.replace(/%(?:\((.*?)\))?(.?)/gs, (whole, name: string | undefined, kind: string) => {
    if (kind === '%') return '%'
    if (name === undefined && next >= values.length) throw new Error(`${whole} in a text has no value`)
    const value = name === undefined ? values[next++] : names ? given.get(name) : undefined
    if (kind === 's') return textOf(value)
    if (kind === 'r') return literalOf(value)
    if (kind === 'd' || kind === 'i')
      return String(Math.trunc(Number(numberOf(value) ?? wrongKind(value, whole))))
    throw new Error(`a text is formatted by ${whole}, which is not supported`)
  })
  if (next < values.length && !names) throw new Error('a text has fewer places than values by "%"')
  return filled
}

/** `text.format(...)`. */
export function formatBraces(text: string, { positional, named }: Arguments): string {
  let next = 0
  return text.replace(/\{\{|\}\}|\{([^{}]*)\}|[{}]/g, (whole, field: string | undefined) => {
    if (whole === '{{' || whole === '}}') return whole.charAt(0)
    const [, name = '', kind, rest] = /^(\w*)(?:!([rs]))?(.*)$/s.exec(field ?? '!') ?? []
    if (field === undefined || rest)
      throw new Error(`a text is formatted by ${whole}, which is not supported`)
    const place = name === '' ? next++ : /^\d+$/.test(name) ? Number(name) : undefined
    const found = place === undefined ? named.has(name) : place < positional.length
    if (!found) throw new Error(`${whole} in a text has no value`)
    const value = place === undefined ? named.get(name) : positional[place]
    return kind === 'r' ? literalOf(value) : textOf(value)
  })
}
