/** Random names of objects. They hold neither time nor count, since they are seen in logs. */
import { randomInt } from 'node:crypto'

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const LENGTH = 24

/** The start of an id, which tells the kind of its object. */
export type IdPrefix =
  | 'file-'
  | 'ftjob-'
  | 'ftevent-'
  | 'ftckpt_'
  | 'upload_'
  | 'part_'
  | 'chatcmpl-'
  | 'cmpl-'
  | 'call_'
  | 'resp_'
  | 'msg_'
  | 'fc_'
  | 'req_'
  | 'job-'

export function newId(prefix: IdPrefix): string {
  return prefix + Array.from({ length: LENGTH }, () => LETTERS[randomInt(LETTERS.length)]).join('')
}

/** True for a text that may be such an id; only those become parts of paths. */
export function isId(prefix: IdPrefix, text: string): boolean {
  return text.startsWith(prefix) && /^[A-Za-z0-9]{24}$/.test(text.slice(prefix.length))
}
