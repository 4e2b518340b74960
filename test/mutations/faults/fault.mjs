/** A fault of `file`, whose text `find` becomes `replace`, and the test file that must fail then. */
export const fault = (file, test, find, replace, what, more = {}) => ({
  file,
  tests: [test],
  find,
  replace,
  what,
  ...more,
})
