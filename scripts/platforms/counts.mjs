// A reporter for vitest: of every test file how many tests passed, failed, or were skipped for which reason, in a file that is
// up to date after each. TEST_COUNTS names it.
import { writeFileSync } from 'node:fs'

export default class Counts {
  #files = {}
  #failures = []

  onTestModuleEnd(module) {
    const file = module.relativeModuleId.replaceAll('\\', '/')
    const counts = {
      passed: 0,
      failed: 0,
      skipped: {},
      seconds: Math.round(module.diagnostic().duration / 100) / 10,
    }
    const fail = (name, errors = []) => {
      counts.failed++
      this.#failures.push({ file, name, message: errors[0]?.message ?? 'no reason given' })
    }
    for (const test of module.children.allTests()) {
      const { state, note = 'said by the test file', errors } = test.result()
      if (state === 'passed') counts.passed++
      else if (state === 'skipped') counts.skipped[note] = (counts.skipped[note] ?? 0) + 1
      else fail(test.fullName, errors)
    }
    const errors = module.errors()
    if (errors.length > 0) fail('', errors)
    this.#files[file] = counts
    this.#write(false)
  }

  onTestRunEnd(_, unhandled) {
    for (const { message } of unhandled) this.#failures.push({ file: '', name: 'unhandled', message })
    this.#write(true)
  }

  #write(ended) {
    const seen = { ended, files: this.#files, failures: this.#failures }
    writeFileSync(process.env.TEST_COUNTS, `${JSON.stringify(seen, null, 2)}\n`)
  }
}
