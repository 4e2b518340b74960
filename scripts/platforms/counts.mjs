// A reporter for vitest: counts of tests, skips by their reason, and failures, in a file that is up to date after every test
// file. TEST_COUNTS names it.
import { writeFileSync } from 'node:fs'

export default class Counts {
  #counts = { files: 0, passed: 0, failed: 0, skipped: 0, reasons: {}, failures: [], slowest: [] }

  onTestModuleEnd(module) {
    const counts = this.#counts
    counts.files++
    for (const test of module.children.allTests()) {
      const { state, note, errors } = test.result()
      if (state === 'passed') counts.passed++
      else if (state === 'skipped') {
        counts.skipped++
        const reason = note ?? 'said by the test file'
        counts.reasons[reason] = (counts.reasons[reason] ?? 0) + 1
      } else this.#fail(module, test.fullName, errors)
    }
    const errors = module.errors()
    if (errors.length > 0) this.#fail(module, '', errors)
    const { duration } = module.diagnostic()
    counts.slowest.push({ file: module.relativeModuleId, seconds: Math.round(duration / 100) / 10 })
    counts.slowest = counts.slowest.sort((a, b) => b.seconds - a.seconds).slice(0, 10)
    this.#write()
  }

  #fail(module, name, errors = []) {
    this.#counts.failed++
    const message = errors[0]?.message ?? 'no reason given'
    this.#counts.failures.push({ file: module.relativeModuleId, name, message })
  }

  onTestRunEnd(_, unhandled) {
    for (const { message } of unhandled) this.#counts.failures.push({ file: '', name: 'unhandled', message })
    this.#counts.failed += unhandled.length
    this.#counts.ended = true
    this.#write()
  }

  #write() {
    writeFileSync(process.env.TEST_COUNTS, `${JSON.stringify(this.#counts, null, 2)}\n`)
  }
}
