"""What names of columns and values hint at, in several languages. A hint is weak evidence: values decide (see `roles`).

A stem fits a part of a name (`userId` has the parts user and id) that equals it, begins with it (from 4 letters on) or ends with it (from 5
on: German compounds); one of 7 letters or more may run over parts (`play_time_ms`); one of another script may stand anywhere.
"""

import re
import unicodedata
from functools import cache

STEMS = {
    "user": """user uid usr email person people customer client member visitor reader viewer shopper buyer subscriber account kunde
        kunden nutzer benutzer besucher leser mitglied kaufer kaeufer usuario utilisateur cliente utente persona membre 用户 顧客
        ユーザー пользовател""",
    "item": """item iid product prod article content video movie film song track book news ad ads advert creative post sku asin isbn
        game recipe course listing offer document photo podcast episode artikel produkt inhalt buch anzeige lied spiel ware produit
        annonce livre producto articulo pelicula prodotto libro 商品 视频 товар""",
    "time": """time timestamp ts date datetime at when epoch moment created occurred datum zeit zeitpunkt zeitstempel uhrzeit fecha
        hora heure horodatage tempo data 时间 日付 время""",
    "request": "request req impressionid impression slate pageview query queryid requestid anfrage peticion requete",
    "session": "session sid visit sitzung sesion besuch",
    "click": "click clicked clk klick geklickt angeklickt clic clicado opened geoffnet ouvert 点击 клик",
    "purchase": """purchase purchased buy bought order ordered conversion converted paid sale sold transaction kauf gekauft bestellt
        bestellung compra comprado pedido achat achete commande acquisto ordine koop gekocht 购买 下单 購入 注文 покупк заказ""",
    "engaged": """like fav liked love follow followed comment commented share shared forward forwarded save saved bookmark favorite
        favourite cart addtocart basket hate dislike skip skipped reply retweet long_view longview complete completed finish finished
        subscribe warenkorb einkaufswagen panier carrito carrello wishlist gemerkt geteilt gefallt merkzettel favori favoris partage
        guardado me_gusta 收藏 点赞 分享 お気に入り избран""",
    "cart": """cart atc addtocart checkout basket warenkorb einkaufswagen panier carrito cesta carrello winkelwagen koszyk 加购 购物车
        カート корзин""",
    "negative": """dislike skip skipped hate remove removed removefromcart unlike unfollow unsave hide hidden block report return
        returned refund cancel cancelled entfernt entfernen storniert zuruck ausgeblendet supprime eliminado""",
    "latitude": "lat latitude breite breitengrad geobreite latitud latitudine 纬度 緯度 широт",
    "longitude": "lon lng long longitude laenge lange langengrad laengengrad geolange longitud longitudine 经度 経度 долгот",
    "duration": """duration dwell dwelltime playtime watchtime viewtime staytime readtime listentime seconds secs elapsed dauer
        verweildauer sehdauer lesedauer spieldauer sekunden duree duracion durata temps_passe 时长 длительн""",
    "rating": "rating rate rated score stars star grade bewertung sterne note puntuacion calificacion valutazione 评分 оценк",
    "weight": "weight sampleweight importance propensity gewicht gewichtung peso poids",
    "position": "position pos rank slot place_in_list reihenfolge platz rang posicion posizione positie 位置 позици",
    "event": """event eventtype action activity behavior behaviour verb interaction ereignis aktion vorgang handlung accion evento
        evenement azione 行为 イベント событи""",
    "view": """view pv viewed watch watched read play played listen pageview ansicht angesehen aufruf aufgerufen betrachtet gelesen
        abgespielt visto vista vu vue lu consultation visualizacion visualizzazione bekeken 浏览 閲覧 再生 просмотр""",
    "shown": """impression impressed shown show exposure exposed display displayed served recommended einblendung eingeblendet
        angezeigt gezeigt affichage affiche mostrado impresion impressione 曝光 展示 表示 показ""",
    "place": """country region city state location place land ort stadt bundesland pays ville pais ciudad paese citta geo market 国家
        城市 город""",
    "device": """device agent useragent browser platform os app mobile system gerat geraet endgerat channel kanal surface tab
        client_type appareil dispositivo apparaat 设备 端末 устройств""",
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
