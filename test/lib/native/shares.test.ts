/** Turns of training and answers on the engine. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { answeringStep, trainingPass } from '../../../lib/native/handles.js'

const PASS_MS = 40

describe('training beside answers', () => {
  it('lets them have as much time as it takes', async () => {
    let done = false
    let answers = 0
    const answering = (async () => {
      while (!done) {
        await answeringStep(() => sleep(4))
        answers++
      }
    })()
    const begin = performance.now()
    for (let i = 0; i < 5; i++) await trainingPass(() => sleep(PASS_MS))
    const taken = performance.now() - begin
    done = true
    await answering
    // The last pass is followed by no turn.
    expect(taken).toBeGreaterThan(9 * PASS_MS * 0.98)
    expect(answers).toBeGreaterThan(5)
  })

  it('goes on soon when the last answer has ended, and at once without any', async () => {
    await sleep(50)
    let began = false
    const alone = trainingPass(() => {
      began = true
      return sleep(500)
    })
    expect(began).toBe(true)
    await alone
    await answeringStep(() => sleep(1))
    const begin = performance.now()
    await trainingPass(() => sleep(1))
    expect(performance.now() - begin).toBeLessThan(250)
  })

  it('is not stopped by an answer or a pass that fails', async () => {
    const failing = () => Promise.reject(new Error('no'))
    await expect(answeringStep(failing)).rejects.toThrow('no')
    await expect(trainingPass(failing)).rejects.toThrow('no')
    expect(await trainingPass(() => Promise.resolve(3))).toBe(3)
  })
})
