/** Selects the device to compute on, and makes its kernels ready. */
import { open } from 'node:fs/promises'
import { promisify } from 'node:util'
import { inflateRaw } from 'node:zlib'
import { DeviceError, FileFormatError } from '../core/errors.js'
import { addon, type CudaCard, type CudaReport, type Device, type InflatedImage } from './addon.js'
import { translated } from './errors.js'

const inflate = promisify(inflateRaw)

/** A device choice: `cuda` is the first usable GPU; `auto` is the same, or the CPU if there is none. */
export type DeviceOption = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`

/** Usable GPUs. */
export function usableCards({ cards }: CudaReport = addon().cuda()): CudaCard[] {
  return cards.filter(({ reason }) => reason === '')
}

/** The card of a process that is the `place`-th on its machine; undefined without usable cards. */
export function cardAt(place: number, cards = usableCards()): CudaCard | undefined {
  return cards[place % Math.max(1, cards.length)]
}

/**
 * Resolves a device option.
 * @param place number of this process among those of the machine that train together: each takes a card of its own
 * @throws {DeviceError} for a GPU that does not exist or cannot be used, with the reason
 */
export function deviceOf(option: DeviceOption, place = 0): Device {
  if (option === 'cpu') return 'cpu'
  const report = translated(() => addon().cuda())
  const first = cardAt(place, usableCards(report))
  if (option === 'auto') return first === undefined ? 'cpu' : `cuda:${first.number}`
  const number = option === 'cuda' ? first?.number : Number(option.slice('cuda:'.length))
  const card = report.cards.find((each) => each.number === number)
  if (card?.reason === '') return `cuda:${card.number}`
  const why = card === undefined ? missing(option, report) : `${card.name}: ${card.reason}`
  throw new DeviceError(
    `device is ${option}, which cannot be used: ${why}. With auto or cpu the CPU computes; \`lowrank doctor\` says more.`,
    { device: option, reasons: report.reasons },
  )
}

function missing(option: DeviceOption, { cards, reasons }: CudaReport): string {
  if (reasons.length > 0) return reasons.join('; ')
  const unusable = cards.map(
    ({ number, name, reason }) => `cuda:${number}, ${name}, ${reason || 'can be used'}`,
  )
  return option === 'cuda' ? unusable.join('; ') : `there is no GPU of that number (${unusable.join('; ')})`
}

/** The GPU of a device; undefined for the CPU. */
export function cardOf(device: Device): CudaCard | undefined {
  return device === 'cpu' ? undefined : usableCards().find(({ number }) => device === `cuda:${number}`)
}

/**
 * Inflates the kernels that a GPU needs, which the package has compressed, before its first use.
 * @throws {FileFormatError} for a damaged pack; {DeviceError} for a GPU that cannot be used
 */
export async function readyKernels(device: Device): Promise<void> {
  if (device === 'cpu') return
  const { path, images } = translated(() => addon().packedKernels(device))
  if (images.length === 0) return
  const inflated: InflatedImage[] = []
  const file = await open(path)
  try {
    for (const { offset, stored, bytes } of images) {
      const { buffer } = await file.read(Buffer.alloc(stored), 0, stored, offset)
      inflated.push({ offset, bytes: await inflate(buffer, { maxOutputLength: bytes }) })
    }
  } catch (cause) {
    const why = (cause as Error).message
    throw new FileFormatError(`${path} is damaged: ${why}. Install the package again.`, { path }, { cause })
  } finally {
    await file.close()
  }
  translated(() => addon().giveKernels(inflated))
}
