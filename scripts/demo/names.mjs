/**
 * Names of the invented world that the tokenizer has as one token each, since they are frequent in the text. A small
 * model copies such a name in one go, so the chats and the task keep to them.
 */
import { hash, words } from './world.mjs'

export const PEOPLE = words(`
  Alna Alnor Allis Aldan Albel Allen Alwin Aldor Amna Amrin Amrik Amlen Ammon Amric Ammer Anna Anrin Anrik
  Anlen Anric Anwin Anlo Arna Arbel Arrik Belna Belrin Belnor Belrik Bellen Belric Belwin Beldor Benna Benrin
  Bennor Benbel Benmon Benlo Borna Borwin Borlo Borten Bordor Brana Bralis Brabel Braric Brador Calna Calrin
  Callis Calrik Calmer Callo Caldor Corna Cornor Corlis Corwin Corten Dana Davin Danor Dalis Darik Dalen Dawin
  Dalo Dador Delna Delvin Delrin Deldan Delbel Delrik Deldra Delric Delwin Delmer Dorna Dorvin Dorrin Dorta
  Dorbel Dorlen Dorric Elna Elvin Elric Elmer Eldor Emna Emvin Emlis Emso Emwin Emmer Erna Ervin Fana Farin
  Falis Fabel Farik Falen Fadra Faten Fenna Fendan Fenbel Fenrik Fenric Fenten Fina Firin Filis Fibel Fiwin
  Frona Fromon Froric Gana Gavin Galis Gaso Garik Gawin Gamer Garna Garso Garrik Garric Garwin Garmer Gilvin
  Gillis Gilrik Gillen Gilmon Gilten Gorna Gorbel Gorric Gorwin Gorlo Hana Halis Harik Halen Haric Hawin Halna
  Halrin Halrik Hallen Helna Helvin Helrin Heldan Helso Helmon Helric Ilra Ilna Illen Ilmon Ilwin Ilmer Illo
  Inna Invin Inlen Inmer Indor Isrin Isrik Islen Ismon Ismer Jana Javin Jadan Jalen Jamer Jona Jovin Jorin
  Jodan Joso Jorik Julna Julvin Julmer Kana Karin Kalis Kabel Kalen Kamer Kalo Kelna Kelvin Kellen Kelric Kina
  Kidan Korna Korvin Korrin Korric Korten Lana Lavin Lamon Laric Lalo Lenna Lendan Lenrik Lenlen Lenmon Lenlo
  Lendor Linna Linla Lindan Linmon Linlo Linten Lona Lomi Lolis Lorik Lolen Lomon Lomer Loten Luna Lurin Lurik
  Lulen Lumon Lumer Luten Mana Malis Maso Marik Mawin Mamer Marna Marvin Marlis Marmon Marmer Marten Melna
  Melnor Melso Melric Melwin Mina Midan Mirik Milen Mimer Miten Morna Morrin Morlis Mordan Morrik Morlen
  Morric Morwin Nana Navin Nalen Nadra Nania Nawin Nalia Nelna Nelnor Nellis Nelbel Nelten Neldor Nona Nomon
  Noten Norna Norrin Norlen Norwin Nordor Ona Orin Odan Orik Olen Owin Orna Orvin Orrin Orrik Ormer Orlo Osna
  Osric Osmer Osten Pana Parin Padan Pamon Palo Pelna Pella Pelvin Pellen Peldor Pina Pivin Piso Pilen Pimon
  Piric Rana Ranor Rarik Ralen Rawin Raten Renna Rendan Renrik Renric Renwin Rina Ririn Rinor Riso Ririk Riwin
  Riten Rona Rovin Rorin Rodan Roso Romon Rowin Sana Savin Sarik Sador Selna Selvin Sellis Selrik Selric
  Selmer Selten Sina Sivin Sirin Sinor Silis Solna Solla Solvin Solbel Solmon Soldra Tana Tarin Talis Tabel
  Tarik Tamon Taric Tawin Tamer Tador Talna Talrin Talbel Tallo Talten Tena Tevin Tenor Tedan Teso Terik Telen
  Temon Teric Temer Tira Tina Tivin Tinor Tidan Timon Tolna Tolrin Tollis Toldan Tolso Tolrik Tollen Tolmon
  Tolric Tolmer Torna Torvin Torlis Tordan Torrik Tormon Tormer Torlo Ulna Ulrin Ulwin Uldor Vana Vami Vavin
  Valen Vamon Varic Velna Velrin Velnor Veldan Velrik Vina Vilis Vidan Vimon Wenso Wenmon Wenwin Wenmer Wilna
  Wilvin Wilrin Willis Wilmon Wilwin Wilmer Yana Yaso Yarik Yamon Yaric Yawin Yaten Yomer Yoten Zana Zarin
  Zadan Zaric Zamer Zaten Zelna Zelnor Zeldan Zello
`)

export const TOWNS = words(`
  Albridge Alcliff Alworth Ambridge Amstead Ammere Anport Anhill Arton Arbury Argard Belburn Bellake Borton
  Borbridge Borhill Brabrook Bramouth Calfield Cordale Cormoor Dabury Delbury Delstead Dorlake Elgard Emmouth
  Embridge Emcliff Emgard Erburn Fabridge Faburn Famere Fenmere Fistead Fihill Gastead Gagard Garburn Gilwood
  Gilmoor Gorness Hahaven Haport Habury Hastead Halake Halton Haldale Ilburn Ishaven Joton Jomouth Jodale
  Joburn Julbrook Kaport Kelbrook Kiwood Kimoor Korbridge Lahill Laworth Linwood Linmere Lohaven Lobury Loness
  Ludale Mafield Mamouth Marbury Melbury Micliff Morhaven Morbridge Morworth Morburn Naton Nelfield Nelport
  Nelgard Nofield Noton Noness Norbrook Norbridge Norwood Normere Norgard Ohaven Orton Orbridge Orworth Oswood
  Pafield Padale Pamoor Pelgard Piton Piwood Piworth Renwood Rifield Rimouth Rolake Saness Simoor Solhaven
  Solmoor Solworth Tabrook Tabridge Talcliff Talworth Teworth Telake Tibury Timoor Tilake Tolbrook Tolton
  Tolbridge Tolwood Vahaven Vamouth Viworth Wenmouth Wilbury Wildale Yaness Yalake Yoworth Zamouth Zamoor
  Zelport
`)

/** True if a name is reserved for the held-out items of the task. */
export const isHeldOut = (name) => hash(name) % 5 === 1
