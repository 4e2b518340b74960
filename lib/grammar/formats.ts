/** Formats of strings as patterns, each at most as wide as the checks of common validators. */

const BYTE = '(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const IPV4 = `${BYTE}\\.${BYTE}\\.${BYTE}\\.${BYTE}`
const LEAP_YEAR = '(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)'
const DATE = `(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))|${LEAP_YEAR}-02-29)`
const TIME = '([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)'
const LETTERS = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
const DOMAIN_PART = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
const NAME_PART = '[A-Za-z0-9]([A-Za-z0-9-]{0,28}[A-Za-z0-9])?'
const HOUR = '(\\d+H(\\d+M(\\d+S)?)?|\\d+M(\\d+S)?|\\d+S)'
const DAY = '(\\d+Y(\\d+M(\\d+D)?)?|\\d+M(\\d+D)?|\\d+D)'

/** Up to 8 groups of an address, of which `::` stands for the missing ones. */
function ipv6(): string {
  const group = '[0-9A-Fa-f]{1,4}'
  const groups = (count: number) => (count === 0 ? '' : `${group}(:${group}){0,${count - 1}}`)
  const short = Array.from({ length: 7 }, (_, before) => {
    const left = before === 0 ? '' : `${group}(:${group}){${before - 1}}`
    const right = groups(7 - before)
    return `${left}::(${right})?`
  })
  return `${group}(:${group}){7}|${short.join('|')}`
}

export const FORMATS: Readonly<Record<string, string>> = {
  'date-time': `^${DATE}T${TIME}$`,
  date: `^${DATE}$`,
  time: `^${TIME}$`,
  duration: `^P(${DAY}(T${HOUR})?|T${HOUR}|\\d+W)$`,
  email: `^${LETTERS}(\\.${LETTERS})*@(${DOMAIN_PART}\\.)+${DOMAIN_PART}$`,
  hostname: `^${NAME_PART}(\\.${NAME_PART}){0,7}$`,
  ipv4: `^${IPV4}$`,
  ipv6: `^(${ipv6()})$`,
  uuid: '^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$',
}
