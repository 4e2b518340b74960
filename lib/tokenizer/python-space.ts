/** White space as Python knows it, which is not that of JavaScript. */

/** Its characters, for a set in a regular expression. */
export const PYTHON_SPACE =
  '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'
