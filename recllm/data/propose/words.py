"""What names of columns and values hint at, in several languages. A hint is weak evidence: values decide (see `roles`).

A stem fits a part of a name (`userId` has the parts user and id) that equals it, begins with it (from 4 letters on) or ends with it (from 5
on: German compounds); one of 7 letters or more may run over parts (`play_time_ms`); one of another script may stand anywhere.
"""

import re
import unicodedata
from functools import cache

STEMS = {
    "user": """user uid usr email person people customer client member visitor reader viewer shopper buyer subscriber account kunde kunden
        nutzer benutzer besucher leser mitglied kaufer kaeufer usuario utilisateur cliente utente persona membre 用户 顧客 ユーザー
        пользовател""",
    "item": """item iid product prod article content video movie film song track book news ad ads advert creative post sku asin isbn game
        recipe course listing offer document photo podcast episode artikel produkt inhalt buch anzeige lied spiel ware produit annonce
        livre producto articulo pelicula prodotto libro 商品 视频 товар""",
    "time": """time timestamp ts date datetime at when epoch moment created occurred datum zeit zeitpunkt zeitstempel uhrzeit fecha hora
        heure horodatage tempo data 时间 日付 время""",
    "request": "request req impressionid impression slate pageview query queryid requestid anfrage peticion requete",
    "session": "session sid visit sitzung sesion besuch",
    "click": "click clicked clk klick geklickt angeklickt clic clicado opened geoffnet ouvert 点击 клик",
    "purchase": """purchase purchased buy bought order ordered conversion converted paid sale sold transaction kauf gekauft bestellt
        bestellung compra comprado achat achete acquisto 购买 покупк""",
    "engaged": """like liked love follow followed comment commented share shared forward forwarded save saved bookmark favorite favourite
        cart addtocart basket hate dislike skip skipped reply retweet long_view longview complete completed finish finished subscribe
        gemerkt geteilt gefallt warenkorb merkzettel""",
    "duration": """duration dwell dwelltime playtime watchtime viewtime staytime readtime listentime seconds secs elapsed dauer verweildauer
        sehdauer lesedauer duree duracion durata 时长""",
    "rating": "rating rate rated score stars star grade bewertung sterne note puntuacion calificacion valutazione 评分 оценк",
    "weight": "weight sampleweight importance propensity gewicht gewichtung peso poids",
    "position": "position pos rank slot place_in_list reihenfolge platz rang",
    "event": "event eventtype action activity behavior behaviour verb interaction ereignis aktion vorgang accion evenement 行为",
    "view": "view viewed watch watched read play played listen pageview ansicht angesehen gelesen visto vu",
    "shown": "impression impressed shown show exposure exposed display displayed served recommended eingeblendet gezeigt",
    "place": "country region city state location place land ort stadt bundesland pays ville pais ciudad geo market",
    "device": "device agent useragent browser platform os app mobile system gerat geraet channel surface tab client_type appareil",
    "clock": "hour weekday weekend day month year date dow hourmin minute stunde wochentag tag monat jahr holiday season feiertag",
    "born": """published release released upload uploaded publish listed birth born signup registered register registration joined
        erschienen veroffentlicht geburt registriert""",
    "known": "known logged received ingested recorded processed updated modified delivered server known_at knownat erfasst gespeichert",
    "profile": "age gender sex occupation job income segment premium plan tier alter geschlecht beruf einkommen zip plz birth education",
    "id": "id ids key nr no nummer code uuid guid hash zip plz",
    "text": "title name description text headline summary body query search titel bezeichnung beschreibung suche titre nombre titulo",
    "ms": "ms msec millis milliseconds millisekunden",
}
COMPILED = {concept: text.split() for concept, text in STEMS.items()}


def parts(name: str) -> list[str]:
    """`userId`, `user_id`, `USER-ID` -> [user, id]; accents are dropped."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = "".join(c for c in unicodedata.normalize("NFKD", spaced) if not unicodedata.combining(c)).casefold()
    return [part for part in re.split(r"[\W_]+", plain) if part]


def _fits(stem: str, found: list[str], whole: str) -> bool:
    if not stem.isascii():
        return unicodedata.normalize("NFKD", stem) in whole or stem in whole
    stem = stem.replace("_", "")
    return any(part == stem or len(stem) >= 4 and part.startswith(stem) or len(stem) >= 5 and part.endswith(stem) for part in found) or (
        len(stem) >= 7 and stem in whole)


@cache
def concepts(name: str) -> frozenset[str]:
    """The concepts of STEMS that a name or a value hints at: `play_time_ms` -> time, duration, ms..."""
    found = parts(name)
    whole = "".join(found)
    return frozenset(concept for concept, stems in COMPILED.items() if any(_fits(stem, found, whole) for stem in stems))
