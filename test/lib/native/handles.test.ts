import { expect, test } from 'vitest'
import { Lifetime } from '../../../lib/native/handles.js'

const later = () => new Promise<void>((resolve) => setTimeout(resolve, 5))

test('disposal waits for work in flight, frees once, and later use is an error that names the object', async () => {
  const lifetime = new Lifetime('The thing', 'make another')
  const order: string[] = []
  const work = lifetime.use(async () => {
    await later()
    order.push('worked')
  })
  const free = () => {
    order.push('freed')
  }
  await Promise.all([lifetime.dispose(free), lifetime.dispose(free), work])
  expect(order).toEqual(['worked', 'freed'])
  const message = 'The thing was disposed and cannot be used; make another.'
  expect(() => lifetime.check()).toThrow(expect.objectContaining({ code: 'DISPOSED', message }))
  await expect(lifetime.use(later)).rejects.toThrow(message)
})

test('work that fails does not keep an object from being freed', async () => {
  const lifetime = new Lifetime('The thing', 'make another')
  const work = lifetime.use(async () => {
    await later()
    throw new Error('failed')
  })
  const freed = lifetime.dispose(() => {})
  await expect(work).rejects.toThrow('failed')
  await freed
})
